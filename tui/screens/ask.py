"""Small dialogs that ask the human for a line of text or for a choice."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.screens.fitted import Fitted


class Ask(Fitted, ModalScreen[str | None]):
    """Asks for one line of text. The answer is None when the human presses escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(self, title: str, hint: str = "", value: str = "") -> None:
        super().__init__()
        self._title, self._hint, self._value = title, hint, value

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = Content(self._title)
            yield Input(value=self._value, select_on_focus=False)
            yield Static(Content.styled(self._hint or "enter sends, esc goes back", "$neutral"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


class Choose(Fitted, ModalScreen[str | None]):
    """Asks to press one of a few keys. The answer is None when the human presses escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("q", "dismiss(None)", "Back", id="back"),
    ]

    def __init__(self, title: str, choices: dict[str, str]) -> None:
        super().__init__()
        self._title, self._choices = title, choices

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = Content(self._title)
            for key, text in {**self._choices, "esc": "go back"}.items():
                yield Static(Content.assemble((f"{key:>5}  ", "bold $measure"), text))

    def on_key(self, event: Key) -> None:
        if event.key in self._choices:
            event.stop()
            self.dismiss(event.key)

"""What the trainer prints, live."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen

from loop.state import RunState
from tui.lines import Item, Lines
from tui.text import safe


class LogScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,L", "dismiss", "Back")]

    def __init__(self, state: RunState) -> None:
        super().__init__()
        self._state = state
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        lines = Lines(id="log", follow=True, empty="the trainer has not printed anything yet")
        lines.border_title = "Training log"
        lines.border_subtitle = "esc goes back, G follows"
        yield lines

    def on_mount(self) -> None:
        self.show_state(self._state)
        self.query_one(Lines).focus()

    def show_state(self, state: RunState) -> None:
        """Called a few times a second; does nothing while nothing is new."""
        if state.seat.log != self._shown:
            self._shown = list(state.seat.log)
            self.query_one(Lines).show([Item(Content(safe(line))) for line in self._shown])

"""What the trainer prints, as it comes."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import ModalScreen

from tui.actions import closed_by
from tui.lines import Item, Lines
from tui.link import Link
from tui.screens.fitted import Fitted
from tui.text import safe


class LogScreen(Fitted, ModalScreen[None]):
    """The newest lines of the training's output."""

    BINDINGS: ClassVar[list[BindingType]] = closed_by("log")

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        lines = Lines(id="log", follow=True, empty="the trainer has not printed anything yet")
        lines.border_title = "Training log"
        lines.border_subtitle = self._link.keys.hint("esc goes back", to_end="follows")
        yield lines

    def on_mount(self) -> None:
        self.show()
        self.query_one(Lines).focus()

    def show(self) -> None:
        """Show the lines that came since the last call; costs little while there are none."""
        log = self._link.state.seat.log
        if log != self._shown:
            self._shown = list(log)
            self.query_one(Lines).show([Item(Content(safe(line))) for line in self._shown])

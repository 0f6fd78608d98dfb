"""What the trainer prints, as it comes."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import ModalScreen

from loop.state import RunState
from tui.actions import closed_by
from tui.lines import Item, Lines
from tui.link import Link
from tui.screens.fitted import Fitted
from tui.text import ended, safe

NOTHING = "nothing trains now: what a trainer prints will stand here, line by line"


class LogScreen(Fitted, ModalScreen[None]):
    """The newest lines of the training's output."""

    BINDINGS: ClassVar[list[BindingType]] = closed_by("log")

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._shown: tuple[str, str, list[str], str] | None = None

    def compose(self) -> ComposeResult:
        lines = Lines(id="log", follow=True)
        lines.border_subtitle = self._link.keys.hint("esc goes back", to_end="follows")
        yield lines

    def on_mount(self) -> None:
        self.show()
        self.query_one(Lines).focus()

    def show(self) -> None:
        """Show the lines that came since the last call; costs little while there are none."""
        state = self._link.state
        view = state.seat
        about = f" · #{view.n}, training {view.training}" if view.n else ""
        empty = "the trainer has not printed anything yet" if state.under_way else NOTHING
        shown = (f"Training log{about}", empty, list(view.log), result(state))
        if shown != self._shown:
            self._shown = shown
            lines = self.query_one(Lines)
            lines.border_title, lines.empty = Content(shown[0]), empty
            ends = [Item(Content.styled(shown[-1], "$measure"))] if shown[-1] else []
            lines.show([Item(Content(safe(line))) for line in view.log] + ends)


def result(state: RunState) -> str:
    """How the training ended whose log is shown; empty while it runs."""
    view = state.seat
    trainings = state.experiment(view.n).trainings if view.n else []
    found = next((t.finished for t in trainings if t.number == view.training), None)
    return f"── {safe(ended(found))}" if found else ""

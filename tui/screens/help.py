"""The help screen: all keys, colours and symbols. The keys come from the table that the screens bind."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen

from tui.actions import ACTIONS, EVERYWHERE, IN_EXPERIMENT, key_name
from tui.lines import Item, Lines
from tui.text import SYMBOLS

HEADINGS = {
    "Run": "The run",
    "Past": "Past experiments",
    "Look": "The screen",
    "Experiment": "In an experiment",
}
COLOURS = (
    ("agent", "the agent"),
    ("step", "what it does"),
    ("training", "the training"),
    ("keep", "kept: the branch moved on"),
    ("discard", "discarded or crashed: the branch stayed"),
    ("measure", "a measurement, or something that waits for you"),
    ("neutral", "everything else"),
)


class Help(ModalScreen[None]):
    """A list to scroll through."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "Back")]

    def compose(self) -> ComposeResult:
        lines = Lines(id="help")
        lines.border_title = "Help"
        lines.border_subtitle = "esc goes back"
        yield lines

    def on_mount(self) -> None:
        lines = self.query_one(Lines)
        lines.show(list(items()))
        lines.focus()


def items() -> list[Item]:
    """The lines of the help screen."""
    found: list[Content] = []
    for group, heading in HEADINGS.items():
        found += [_heading(heading)]
        found += [_line(key_name(a.key), a.help) for a in (*ACTIONS, *IN_EXPERIMENT) if a.group == group]
        found += [Content("")]
    found += [_heading("In every panel"), *(_line(keys, text) for keys, text in EVERYWHERE), Content("")]
    found += [_heading("Colours")]
    found += [Content.assemble("  ", ("██", f"${name}"), f"        {text}") for name, text in COLOURS]
    found += [Content(""), _heading("Symbols")]
    found += [
        Content.assemble("  ", (f"{symbol} {phase}", style)) for phase, (symbol, style) in SYMBOLS.items()
    ]
    return [Item(content) for content in found]


def _heading(text: str) -> Content:
    return Content.styled(text, "bold $agent")


def _line(keys: str, text: str) -> Content:
    return Content.assemble((f"  {keys:<10}", "bold $measure"), text)

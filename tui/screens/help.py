"""The help screen: the loop, all keys, colours and symbols. Keys come from the table that screens bind."""

from __future__ import annotations

import textwrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import ModalScreen

from loop.state import RunState
from tui.actions import EVERY_ACTION, closed_by
from tui.keys import Keys
from tui.lines import Item, Lines
from tui.panels.flow import STEPS, fixed
from tui.screens.fitted import Fitted
from tui.text import SYMBOLS

HEADINGS = {
    "Run": "The run",
    "Past": "Past experiments",
    "Look": "The screen",
    "Experiment": "In an experiment",
    "Comparison": "In a comparison",
    "Lists": "In a list of messages or runs, and in a transcript",
    "Move": "In every panel",
}
TEXT = 57
"""Columns for what a key does, on a terminal of 80 columns."""
EVERYWHERE = (
    ("esc", "back; out of the filter"),
    ("ctrl+p", "command palette"),
    ("ctrl+l", "draw the screen again"),
)
"""Keys that the settings cannot change."""
COLOURS = (
    ("agent", "the agent"),
    ("step", "what it does"),
    ("training", "the training"),
    ("keep", "kept: the branch moved on"),
    ("discard", "discarded or crashed: the branch stayed"),
    ("measure", "a measurement, or something that waits for you"),
    ("neutral", "everything else"),
)
LOOP = (
    ("read", "the agent reads the code and all results so far"),
    ("propose", "it changes the editable file: a candidate, one git commit"),
    ("train", "the candidate trains for the budget, a fixed time"),
    ("judge", "better? keep: the branch moves on; if not, discard: it stays"),
    ("log", "the verdict goes to results.tsv, kept or not; then again"),
)
WHY = (
    (
        "Δ",
        "its value minus the incumbent's when it was judged; the incumbent's is the mean of its trainings, "
        "and moves a little when it trains again",
    ),
    ("within noise", "as far from the incumbent as two trainings of the same code may be"),
    ("better, in noise", "the same, and its number is better; but chance alone explains that"),
    ("not sure enough", "better, but by too little to be believed"),
    ("12% fewer steps", "worse, and slower: it made fewer steps in the same time"),
    ("3.4 se better", "better by so many standard errors"),
    ("training 2", "one more training, with another seed, is to decide"),
)


class Help(Fitted, ModalScreen[None]):
    """A list to scroll through."""

    BINDINGS: ClassVar[list[BindingType]] = closed_by("help")

    def __init__(self, state: RunState, keys: Keys) -> None:
        super().__init__()
        self._keys = keys
        self._fixed = " · ".join(fixed(state))

    def compose(self) -> ComposeResult:
        lines = Lines(id="help")
        lines.border_title = "Help"
        lines.border_subtitle = "esc goes back"
        yield lines

    def on_mount(self) -> None:
        lines = self.query_one(Lines)
        lines.show(items(self._keys, self._fixed))
        lines.focus()


def items(keys: Keys, fixed: str = "") -> list[Item]:
    """The lines of the help screen; `fixed` says what is the same for all experiments."""
    found = [_heading("The loop, until you stop it")]
    found += [_line(step, text, f"bold {STEPS[step]}") for step, text in LOOP]
    found += [_line("fixed", fixed, "bold $neutral")] if fixed else []
    found += [Content("")]
    for group, heading in HEADINGS.items():
        found += [_heading(heading)]
        actions = [a for a in EVERY_ACTION if a.group == group]
        found += [_line(keys.names(a.id) or "–", a.help) for a in actions]
        found += [Content("")]
    found[-1:] = [*(_line(key, text) for key, text in EVERYWHERE), Content("")]
    found += [_heading("Colours")]
    found += [Content.assemble("  ", ("██", f"${name}"), f"          {text}") for name, text in COLOURS]
    found += [
        Content(""),
        _heading("Why, in the table (the screen of an experiment says more)"),
    ]
    found += [_line(word, text, "$measure", 19) for word, text in WHY]
    found += [Content(""), _heading("Symbols")]
    found += [
        Content.assemble("  ", (f"{symbol} {phase}", style)) for phase, (symbol, style) in SYMBOLS.items()
    ]
    return [Item(content) for content in found]


def _heading(text: str) -> Content:
    return Content.styled(text, "bold $agent")


def _line(keys: str, text: str, style: str = "bold $measure", indent: int = 14) -> Content:
    """Keys and what they do, which begins at column `indent`; what is too long for a row goes on below it."""
    rows = f"\n{'':{indent}}".join(textwrap.wrap(text, TEXT + 14 - indent, break_on_hyphens=False))
    return Content.assemble((f"  {keys:<{indent - 2}}", style), rows)

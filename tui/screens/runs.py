"""The list of all runs on this machine: what each does, what it wants of you, how far it has come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import ModalScreen

from loop.client import RunOverview, Runs
from tui.actions import CHOOSE, NEW_RUN, bindings, closed_by
from tui.lines import Item, Lines
from tui.link import Link
from tui.others import is_shown
from tui.screens.fitted import Fitted
from tui.screens.new_run import NewRunScreen
from tui.text import SYMBOLS, cut, metric, plural, safe

REFRESH_S = 2.0
"""Seconds after which the list is read anew."""
NAME = 14
"""Columns of a run's tag, and of the name of its repository."""
FINISHED = ("stopped", "")
"""Phases in which an engine leaves a run in order; in any other one it was cut off."""


class RunsScreen(Fitted, ModalScreen[RunOverview | None]):
    """Lists the runs; the one that is chosen is shown by the cockpit then."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *closed_by("runs", "dismiss(None)"),
        *bindings([CHOOSE, NEW_RUN]),
    ]

    def __init__(self, runs: Runs, link: Link) -> None:
        super().__init__()
        self._runs, self._state, self._keys = runs, link.state, link.keys
        self._listed: list[RunOverview] = []

    def compose(self) -> ComposeResult:
        lines = Lines(id="runs", wrap=False, cursor=True, empty="no run is known yet")
        lines.border_title = "Runs on this machine"
        lines.border_subtitle = self._keys.hint("esc goes back", choose="shows a run", new_run="starts one")
        yield lines

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.set_interval(REFRESH_S, self._refresh)
        self._refresh()

    def _refresh(self) -> None:
        self.run_worker(self._read, thread=True, exclusive=True, group="runs")

    def _read(self) -> None:
        found = self._runs.known()
        self.app.call_from_thread(self._show, found)

    def _show(self, found: list[RunOverview]) -> None:
        if found == self._listed:
            return
        lines = self.query_one(Lines)
        chosen = self._listed[lines.cursor] if self._listed and lines.cursor is not None else None
        self._listed, now = found, time.time()
        names = repositories(run.root for run in found)
        tags = told_apart({run.tag: run.tag for run in found})
        rows = [
            row(run, tags[run.tag], names[run.root], now, here=is_shown(run, self._state)) for run in found
        ]
        lines.show(list(map(Item, rows)))
        keys = [(run.root, run.tag) for run in found]
        wanted = (chosen.root, chosen.tag) if chosen else (self._state.repository, self._state.tag)
        lines.select(keys.index(wanted) if wanted in keys else 0)

    def action_choose(self) -> None:
        self.query_one(Lines).action_choose()

    def action_new_run(self) -> None:
        """A new run in the repository of the run under the cursor."""
        cursor = self.query_one(Lines).cursor
        root = self._listed[cursor].root if self._listed and cursor is not None else self._state.repository

        def started(run: RunOverview | None) -> None:
            if run is not None:
                self.dismiss(run)

        self.app.push_screen(NewRunScreen(self._runs, root), started)

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        if event.index < len(self._listed):
            self.dismiss(self._listed[event.index])


def repositories(roots: Iterable[str]) -> dict[str, str]:
    """A short name for each repository: its folder, with as many of those above it as tell it from others."""
    ends = {root: _ends(Path(root).parts) for root in roots}
    count = Counter(chain.from_iterable(ends.values()))
    shortest = {root: next((end for end in own if count[end] == 1), (root,)) for root, own in ends.items()}
    return told_apart({root: str(Path(*end)) for root, end in shortest.items()})


def _ends(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The last part, the last two parts, and so on."""
    return [parts[i:] for i in reversed(range(len(parts)))]


def told_apart(names: Mapping[str, str]) -> dict[str, str]:
    """The names in at most `NAME` columns, by the same keys.

    All are cut at one place: at the end, the beginning or the middle, where the most of them stay different.
    """

    def keeping(last: int) -> dict[str, str]:
        return {key: _cut(safe(name), last) for key, name in names.items()}

    return max(map(keeping, (0, NAME - 1, NAME // 2)), key=lambda found: len(set(found.values())))


def _cut(text: str, last: int) -> str:
    """The text in `NAME` columns; where it is longer, its beginning and its last `last` characters."""
    if len(text) <= NAME:
        return text
    return f"{text[: NAME - 1 - last]}…{text[len(text) - last :]}"


def row(run: RunOverview, tag: str, repository: str, now: float, *, here: bool) -> Content:
    """A run as one line, what tells it from others first; `here` marks the one that is shown now."""
    word, symbol, style = condition(run)
    gain = 100 * (run.best / run.baseline - 1) if run.best is not None and run.baseline else 0.0
    change = f"{gain:+6.2f}%" if gain else " " * 7
    figures = f"{metric(run.best):>7} {change} {run.experiments:>5} exp {run.kept:>3} kept"
    wants = run.attention if run.running else ""
    hours = f"{max(0.0, run.seen - run.began) / 3600:5.1f} h"
    cost = f"${run.dollars:.2f}" if run.dollars is not None else ""
    return Content.assemble(
        ("▸ " if here else "  ", "bold"),
        (f"{symbol} {word:11} ", style),
        (f"{tag:{NAME}} ", "bold"),
        (f"{repository:{NAME}} ", "$step"),
        (f"{ago(now - run.seen):>7}  ", "$neutral"),
        (
            f"{cut(safe(wants), 34):34} " if wants else f"{figures:34} ",
            "bold $measure" if wants else "$measure",
        ),
        (f"{hours} {cost:>7}", "$neutral"),
    )


def condition(run: RunOverview) -> tuple[str, str, str]:
    """What a run does, in a word, with its symbol and colour."""
    if run.running:
        word = "waits" if run.attention and run.phase != "paused" else safe(run.phase)
        symbol, style = SYMBOLS["waiting"] if word == "waits" else SYMBOLS.get(word, ("●", "$training"))
        return word, symbol, style
    if run.phase in FINISHED:
        return "finished", *SYMBOLS["stopped"]
    return "interrupted", "!", "$discard"


def ago(seconds: float) -> str:
    """How long ago something was, roughly: `now`, `12 min`, `3 h`, `5 days`."""
    if seconds < 60:
        return "now"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return plural(round(seconds / 86400), "day")

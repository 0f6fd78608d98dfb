"""Experiments side by side: figures, loss curves, diffs, and where the incumbent comes from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Static, TabbedContent, TabPane

from loop.client import ConnectionLost, Refused
from loop.events import ExperimentDetail
from loop.state import Experiment, RunState
from tui.actions import IN_COMPARISON, ON_EVERY_SCREEN, bindings
from tui.curves import Curve, Curves
from tui.lineage import graph
from tui.lines import Item, Lines
from tui.link import Link
from tui.panels.diff import Diff
from tui.panels.footer import KeyBar
from tui.panels.results import why
from tui.screens.run import RunScreen
from tui.settings import Settings
from tui.text import SYMBOLS, cut, metric, phase_now, safe, short, signed, title

COLORS = ("orange", "cyan", "magenta", "green", "blue", "red", "yellow", "white")
"""Colours of the curves, in the order of the experiments."""
MOST = len(COLORS)
"""So many experiments are compared at most: more lines in one picture cannot be told apart."""
CELL = 17
"""Columns of an experiment in the table of figures."""


class CompareScreen(RunScreen):
    """Compares the experiments `numbers`. `[` and `]` go through the pairs whose files are compared."""

    BINDINGS: ClassVar[list[BindingType]] = bindings((*IN_COMPARISON, *ON_EVERY_SCREEN))

    def __init__(
        self, link: Link, settings: Settings, remember: Callable[[], None], numbers: list[int]
    ) -> None:
        super().__init__(link, settings, remember)
        self._numbers = numbers[:MOST]
        self._pairs = list(combinations(self._numbers, 2))
        self._pair = 0
        self._details: dict[int, ExperimentDetail] = {}

    def compose(self) -> ComposeResult:
        def name(tab: str) -> Content:
            return Content(f"{self.link.keys[f'compare_{tab}']} {tab.capitalize()}".strip())

        yield Static(id="summary", markup=False)
        with TabbedContent(id="tabs"):
            with TabPane(name("figures"), id="tab-figures"):
                yield Lines(id="figures", wrap=False)
            with TabPane(name("curves"), id="tab-curves"):
                yield Curves(id="curves-of-all")
            with TabPane(name("diff"), id="tab-diff"):
                empty = self.link.keys.hint("a diff needs two experiments", mark="marks them")
                yield Diff(self.link.keys, id="diff-of-two", empty=empty)
            with TabPane(name("lineage"), id="tab-lineage"):
                yield Lines(id="lineage", wrap=False, empty="nothing is kept yet")
        yield KeyBar((*IN_COMPARISON, *ON_EVERY_SCREEN))

    def on_mount(self) -> None:
        state = self.link.state
        experiments = [state.experiment(n) for n in self._numbers]
        names = [_name(e, state) for e in experiments]
        self.query_one("#summary", Static).update(Content("\n").join(names[:4]))
        self.query_one("#figures", Lines).show([Item(line) for line in figures(experiments, state)])
        self.query_one("#lineage", Lines).show([Item(line) for line in graph(state)])
        self.query_one("#figures", Lines).focus()
        self.run_worker(self._load(), exclusive=True, group="detail")

    async def _load(self) -> None:
        for n in self._numbers:
            try:
                self._details[n] = await self.link.connection.experiment(n)
            except (Refused, ConnectionLost) as error:
                self.link.toast(str(error), "warning")
        curves = [
            Curve(f"#{n}", color, self._details[n].curve)
            for n, color in zip(self._numbers, COLORS, strict=False)
            if n in self._details
        ]
        self.query_one("#curves-of-all", Curves).show(curves)
        self._show_diff()

    def _show_diff(self) -> None:
        """Show the change from the first experiment of the pair to the second."""
        if not self._pairs:
            return
        a, b = self._pairs[self._pair]
        if a in self._details and b in self._details:
            self.lay_out_diff()
            added, removed = self.diff.compare(self._details[a].after, self._details[b].after)
            self.diff.border_title = f"#{a} → #{b}  +{added} -{removed}"

    # --- keys ---

    def action_walk(self, by: int) -> None:
        if self._pairs:
            self._pair = (self._pair + by) % len(self._pairs)
            self._show_diff()
            self.action_tab("diff")

    def action_tab(self, name: str) -> None:
        self.query_one(TabbedContent).active = f"tab-{name}"
        focus = {"figures": "#figures", "diff": "#diff-of-two", "lineage": "#lineage"}.get(name)
        if focus:
            self.query_one(focus).focus()


def _name(e: Experiment, state: RunState) -> Content:
    """One line about an experiment, for the head of the screen."""
    phase = phase_now(e, state)
    symbol, style = SYMBOLS[phase]
    return Content.assemble(
        (f"#{e.n:<5}", "bold"),
        (f"{symbol} {phase:9} ", style),
        (f"{metric(e.value):>7} {signed(e.delta):>8}  ", "$measure"),
        ("★ " if e.n == state.incumbent else "", "$keep"),
        title(e),
    )


def figures(experiments: list[Experiment], state: RunState) -> list[Content]:
    """A table: a column for each experiment, a row for each figure. Where they differ, it is bold."""
    head = Content.styled(f"{'':20}" + "".join(f"{f'#{e.n}':>{CELL}}" for e in experiments), "bold $measure")
    found = [head]
    for name, cells in _rows(experiments, state):
        style = "bold" if len(set(cells)) > 1 else "$neutral"
        line = "".join(f"{cut(cell, CELL - 1):>{CELL}}" for cell in cells)
        found.append(Content.assemble((f"{cut(name, 19):20}", "$neutral"), (line, style)))
    return found


def _rows(experiments: list[Experiment], state: RunState) -> list[tuple[str, list[str]]]:
    """Name and cells of each row: the verdict first, then what the trainings printed at their end."""
    first: list[tuple[str, list[str]]] = [
        ("verdict", [e.phase for e in experiments]),
        ("why", [why(e, state) for e in experiments]),
        ("value", [metric(e.value) for e in experiments]),
        ("difference", [signed(e.delta) for e in experiments]),
        ("trainings", [str(len(e.trainings)) for e in experiments]),
        ("memory GB", [f"{e.memory_gb:.1f}" for e in experiments]),
        ("lines", [f"+{e.added} -{e.removed}" for e in experiments]),
    ]
    summaries = [_summary(e) for e in experiments]
    names = dict.fromkeys(name for summary in summaries for name in summary)
    return first + [(name, [summary.get(name, "–") for summary in summaries]) for name in names]


def _summary(e: Experiment) -> dict[str, str]:
    """What the last finished training of an experiment printed at its end."""
    ended = e.last_ended
    if ended is None:
        return {}
    return {safe(k): short(v) if isinstance(v, float) else safe(v) for k, v in ended.summary.items()}

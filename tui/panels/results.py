"""The table of results: every experiment of the run, newest first, and the rows of other runs below them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from loop.state import Experiment, RunState
from tui.filter import matches
from tui.lines import Item, Lines
from tui.text import SYMBOLS, cut, improves, metric, phase_now, safe, signed, title

Order = Literal["newest first", "oldest first", "best first", "by status"]
ORDERS: tuple[Order, ...] = ("newest first", "oldest first", "best first", "by status")
STATUS_ORDER = (
    "training",
    "judging",
    "queued",
    "waiting",
    "proposing",
    "keep",
    "discard",
    "crash",
    "rejected",
)


Look = tuple[Any, ...]
"""Everything that a row shows."""
UNMADE = Item(Content(""))
"""Stands for a row that was not in view yet."""
WHY = 16
"""Characters of the column that says why."""
WIDTH_BEFORE_DESCRIPTION = 88
"""Characters that the cells before the description take at most, with a few to spare."""


class ResultsPanel(Vertical):
    """The table under its column headings."""

    def compose(self) -> ComposeResult:
        yield Static(id="headings", markup=False)
        yield Results(id="results")

    def show_state(self, state: RunState) -> None:
        table = self.query_one(Results)
        table.show_state(state)
        self.border_title = Content(table.title)
        self._head()

    def on_resize(self) -> None:
        self.call_after_refresh(self._head)

    def _head(self) -> None:
        width = self.query_one(Results).content_size.width
        self.query_one("#headings", Static).update(headings(width), layout=False)


class Results(Lines):
    """One row for each experiment. The cursor stays on its experiment when rows come and go."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.clear_filter", "Clear filter", show=False)
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, wrap=False, cursor=True, empty="no experiment yet")
        self.title = "results.tsv"
        self.order: Order = "newest first"
        self.query_text = ""
        self.numbers: list[int] = []
        """Number of each row's experiment; below 1 for a row that another run or tool wrote."""
        self.others: list[Experiment] = []
        """The rows that other runs or tools wrote."""
        self._shown: list[Experiment] = []
        self._looks: list[Look] = []
        """What each row shows now: only a row whose look has changed is painted again."""
        self._state: RunState | None = None
        self.marks: set[int] = set()
        """The experiments that the human has marked, to compare them."""
        self._pinned: int | None = None
        """The experiment on which the human has put the cursor; None: the cursor stays on the newest."""

    def show_state(self, state: RunState) -> None:
        """Bring the rows up to date. A row is made when it comes into view."""
        self._state = state
        every = [*self.others, *state.experiments]
        found = [e for e in every if not self.query_text or matches(self.query_text, e)]
        found.sort(key=_key(self.order, state.direction), reverse=self.order == "newest first")
        self.title = self._title(len(found), len(every))
        numbers = [e.n for e in found]
        looks = [_look(e, state, e.n in self.marks) for e in found]
        self._shown = found
        if numbers == self.numbers:
            self._repaint(looks)
            return
        self.numbers, self._looks = numbers, looks
        self.show([UNMADE] * len(found))
        self.cursor = numbers.index(self._pinned) if self._pinned in numbers else 0

    def _repaint(self, looks: list[Look]) -> None:
        changed = [i for i, (old, new) in enumerate(zip(self._looks, looks, strict=True)) if old != new]
        self._looks = looks
        for i in changed:
            if i < len(self._blocks):
                self._blocks[i] = None
        if changed:
            self.refresh()

    def item(self, index: int) -> Item:
        *_, phase, words, marked, best = self._looks[index]
        columns = _columns(self._width)
        return Item(row(self._shown[index], phase, words, columns, best=best, marked=marked))

    def reach(self, index: int) -> int:
        e = self._shown[index]
        return WIDTH_BEFORE_DESCRIPTION + len(e.description) + len(e.reason)

    def _title(self, shown: int, total: int) -> str:
        text = "results.tsv"
        if self.query_text:
            text += f"  /{safe(self.query_text)}  {shown} of {total}  (esc clears)"
        return text + (f"  {self.order}" if self.order != "newest first" else "")

    @property
    def selected(self) -> int | None:
        """Number of the experiment under the cursor; None on the row of another run or on no row."""
        n = self._under_cursor
        return n if n is not None and n > 0 else None

    @property
    def _under_cursor(self) -> int | None:
        if self.cursor is None or self.cursor >= len(self.numbers):
            return None
        return self.numbers[self.cursor]

    def go_to(self, n: int) -> None:
        if n in self.numbers:
            self._pinned = n
            self.select(self.numbers.index(n))

    def on_lines_moved(self) -> None:
        self._pinned = None if self.cursor == 0 else self._under_cursor

    def forget(self) -> None:
        """Another run is shown from now on: marks and rows of other runs were this one's."""
        self.marks.clear()
        self.others, self._pinned = [], None

    def mark(self) -> None:
        """Mark the experiment under the cursor, or take its mark away, and go to the next row."""
        if (n := self.selected) is not None:
            self.marks ^= {n}
            if self._state is not None:
                self.show_state(self._state)
            self.action_move(1)

    def next_order(self) -> None:
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]


def _look(e: Experiment, state: RunState, marked: bool) -> Look:
    figures = (e.value, e.delta, e.stderr, len(e.values), e.memory_gb)
    words = (phase_now(e, state), why(e, state))
    return (e.commit, *figures, e.description, e.reason, *words, marked, e.n == state.incumbent)


def _columns(width: int) -> tuple[str, ...]:
    if width < 60:
        return ("n", "value", "status", "why", "description")
    if width < 84:
        return ("n", "value", "delta", "status", "why", "description")
    if width < 110:
        return ("n", "commit", "value", "delta", "status", "why", "description")
    return ("n", "commit", "value", "delta", "evidence", "memory", "status", "why", "description")


def row(
    e: Experiment, phase: str, words: str, columns: tuple[str, ...], *, best: bool, marked: bool
) -> Content:
    """An experiment as one line, with its phase and with `words` that say why; `best` marks the incumbent,
    `marked` what is compared."""
    symbol, style = SYMBOLS[phase]
    delta = "$keep" if e.phase == "keep" else "$neutral"
    reason = f"  ({safe(e.reason)})" if e.phase in ("crash", "rejected") and e.reason else ""
    value = metric(e.value) if e.value is not None or e.phase == "discard" else ""
    idea = safe(e.description) if phase == "stopped" else title(e)  # nobody thinks about it any more
    cells: dict[str, Content] = {
        "n": _number(e, best, marked),
        "commit": Content.styled(f"{safe(e.commit)[:7]:7} ", "$neutral"),
        "value": Content.styled(f"{value:>7} ", "$measure"),
        "delta": Content.styled(f"{signed(e.delta):>8} ", delta),
        "evidence": Content.styled(f"{evidence(e):>10} ", "$neutral"),
        "memory": Content.styled(f"{e.memory_gb:>5.1f} GB " if e.memory_gb else " " * 9, "$neutral"),
        "status": Content.styled(f"{symbol} {phase:9} ", style),
        "why": Content.styled(f"{cut(words, WHY):{WHY}} ", style if e.judged else "$measure"),
        "description": Content.assemble(("★ " if best else "", "$keep"), idea, (reason, "$neutral")),
    }
    return Content("").join(cells[name] for name in columns)


def _number(e: Experiment, best: bool, marked: bool) -> Content:
    """The number of an experiment; a dot for the row of another run or tool."""
    text = f"{e.n:>4}" if e.n > 0 else "   ·"
    if marked:
        return Content.styled(f"{text}◂", "bold $measure")
    return Content.styled(f"{text} ", "bold" if best else "$neutral")


def why(e: Experiment, state: RunState) -> str:
    """Why the experiment is where it is, in at most `WHY` characters."""
    if e.judged:
        if e.short == "within noise" and improves(e, state):
            return "better, in noise"
        return "changed by you" if e.by_hand else safe(e.short)
    if phase_now(e, state) == "stopped":
        return "judged later" if e.phase == "judging" else "starts again"
    if e.phase == "waiting":
        return "you decide"
    if e.phase == "queued":
        # No "trains next": what trains now may have to train again before it.
        return "first in queue" if state.queue[0] is e else "in the queue"
    if e.phase in ("training", "judging") and len(e.trainings) > 1:
        return f"training {len(e.trainings)}"
    return ""


def evidence(e: Experiment) -> str:
    """The difference in standard errors, and how many trainings the value is the mean of."""
    trainings = f"×{len(e.values)}" if len(e.values) > 1 else ""
    if e.delta is None or not e.stderr:
        return trainings
    return f"{abs(e.delta) / e.stderr:.1f} se {trainings:2}"


HEADINGS = {
    "n": "   # ",
    "commit": "commit  ",
    "value": "val_bpb ",
    "delta": "       Δ ",
    "evidence": "  evidence ",
    "memory": "  memory ",
    "status": "  status    ",
    "why": f"{'why':{WHY}} ",
    "description": "description",
}


def headings(width: int) -> str:
    return "".join(HEADINGS[name] for name in _columns(width))


def _key(order: Order, direction: str) -> Callable[[Experiment], Any]:
    sign = 1 if direction == "min" else -1
    if order == "best first":
        return lambda e: (e.value is None, sign * (e.value or 0.0), e.n)
    if order == "by status":
        return lambda e: (STATUS_ORDER.index(e.phase), e.n)
    return lambda e: e.n

"""The seats: a cell for each training that may run at once. The strip below follows the one under the cursor.

A cell is repainted when its text has changed, and its meter every few seconds only: eight of them that count
down each second would fill a slow line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, ItemGrid
from textual.content import Content
from textual.events import Click
from textual.message import Message

from loop.events import CurvePoint, TrainingStarted
from loop.state import LiveView, RunState, SeatView
from tui.panels.training import Line, loss_at
from tui.text import safe, title

CELL = 52
"""Columns that a cell needs."""
ROWS, FEW_ROWS = 4, 3
"""Rows of cells at most, with room for all panels and with room for one."""
MOST = 16
"""Cells at most: four columns of them fill the widest screens."""
METER = 25
"""Columns of a cell's meter; styled the same in tui.tcss."""
EVERY_S = 5.0
"""Seconds between two looks at the meters."""


def count(state: RunState) -> int:
    """How many seats the run has: those of its engine, and those on which an earlier one still trains."""
    own = state.engine.seats if state.engine else 1
    return max([own, *(started.seat + 1 for started in state.under_way)])


def training_on(state: RunState, seat: int) -> TrainingStarted | None:
    """What trains on the seat; nothing does once the engine has stopped."""
    found = (x for x in state.under_way if x.seat == seat and state.stopped is None)
    return next(found, None)


def name(state: RunState, seat: int, view: SeatView) -> str:
    """What the seat is called: its machine where there are several, else the number of its GPU or its own."""
    if view.place and len({v.place for v in state.live.seats.values()}) > 1:
        return f"{view.place} {seat}"
    return f"GPU {seat}" if state.engine and state.engine.gpu else f"seat {seat}"


def label(state: RunState, seat: int, view: SeatView) -> Content:
    """Which seat it is and what trains there."""
    where = (f"{safe(name(state, seat, view))}  ", "$neutral")
    started = training_on(state, seat)
    if started is None:
        return Content.assemble(where, ("free", "$neutral"))
    again = f" again ({started.training})" if started.training > 1 else ""
    what = f"#{started.n}{again} {title(state.experiment(started.n))}"
    return Content.assemble(where, (what, "$training"))


def meter(view: SeatView, budget_s: float, reference: Sequence[CurvePoint]) -> Content:
    """How far its training is, and how its loss compares with the incumbent's at the same share."""
    p = view.progress
    if not view.phase:
        return Content("")
    if p is None or view.phase not in ("training", "done"):
        return Content.styled(safe(view.phase)[:METER].rjust(METER), "$training")
    fraction = p.fraction or (1 - (p.remaining_s or 0.0) / budget_s if budget_s else 0.0)
    full = round(8 * min(1.0, max(0.0, fraction)))
    words, style = standing(view.curve, reference)
    return Content.assemble(
        ("━" * full, "$training"), ("─" * (8 - full), "$neutral"), (f" {100 * fraction:3.0f}%", ""),
        (f" {words}".rjust(METER - 13), style),
    )  # fmt: skip


def standing(curve: Sequence[CurvePoint], reference: Sequence[CurvePoint]) -> tuple[str, str]:
    """`0.03 ahead` of the incumbent at the same share of the budget, or `behind`, and its style."""
    if len(reference) < 2 or not curve:
        return "", ""
    gap = curve[-1].loss - loss_at(reference, curve[-1].fraction)
    if abs(gap) < 0.005:
        return "level", "$neutral"
    return (f"{abs(gap):.2f} ahead", "$keep") if gap < 0 else (f"{abs(gap):.2f} behind", "$discard")


class Cell(Horizontal):
    """One seat."""

    def compose(self) -> ComposeResult:
        yield Line(classes="label")
        yield Line(classes="meter")


class Seats(ItemGrid, can_focus=True):
    """The grid. Where there are more seats than cells, it shows the page with the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "move(1)", "Next seat", show=False, id="move_right"),
        Binding("left,h", "move(-1)", "Previous seat", show=False, id="move_left"),
        Binding("down,j", "row(1)", "Down", show=False, id="move_down"),
        Binding("up,k", "row(-1)", "Up", show=False, id="move_up"),
        Binding("pagedown,ctrl+f", "page(1)", "Next page", show=False, id="page_down"),
        Binding("pageup,ctrl+b", "page(-1)", "Previous page", show=False, id="page_up"),
    ]

    class Moved(Message):
        """The cursor is on another seat."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, min_column_width=CELL, stretch_height=False)
        self.display = False  # until the state says that there are several
        self.seat = 0
        """The seat under the cursor."""
        self.reference: Sequence[CurvePoint] = ()
        """The incumbent's loss curve."""
        self.few = False
        """There is room for one panel only."""
        self._count = 1
        self._looked = 0.0

    def compose(self) -> ComposeResult:
        for _ in range(MOST):
            yield Cell()

    @property
    def columns(self) -> int:
        return max(1, min(4, self.content_size.width // CELL))

    @property
    def cells(self) -> int:
        """How many seats one page shows."""
        rows = FEW_ROWS if self.few else ROWS
        return max(1, min(self._count, rows * self.columns, MOST))

    def show_state(self, state: RunState, now: float, *, changed: bool) -> None:
        """Show the seats of the page; `changed`: something other than the time has changed."""
        self._count = count(state)
        self.display = self._count > 1
        due = changed or now - self._looked >= EVERY_S or now < self._looked
        if not self.display or not due:
            return
        self._looked = now
        self.seat = min(self.seat, self._count - 1)
        self._paint(state)

    def _paint(self, state: RunState) -> None:
        first = self.seat // self.cells * self.cells
        last = min(first + self.cells, self._count)
        busy = len(state.under_way) if state.stopped is None else 0
        page = f" · {first + 1} to {last}" if self.cells < self._count else ""
        self.border_title = Content(f"Seats · {busy} of {self._count} train{page}")
        budget_s = state.engine.budget_s if state.engine else 300.0
        self.styles.height = -(-self.cells // self.columns) + 2
        for i, cell in enumerate(self.query(Cell)):
            seat = first + i
            cell.display = i < self.cells and seat < self._count
            if not cell.display:
                continue
            cell.set_class(seat == self.seat, "selected")
            view = _view(state.live, seat)
            cell.query_one(".label", Line).show(label(state, seat, view))
            trains = training_on(state, seat) is not None
            text = meter(view, budget_s, self.reference) if trains else Content("")
            cell.query_one(".meter", Line).show(text)

    def select(self, seat: int) -> None:
        """Put the cursor on a seat."""
        self.seat = max(0, min(self._count - 1, seat))
        self.post_message(self.Moved())

    def on_click(self, event: Click) -> None:
        cell = next(
            (w for w in (event.widget.ancestors_with_self if event.widget else ()) if isinstance(w, Cell)),
            None,
        )
        if cell is not None:
            first = self.seat // self.cells * self.cells
            self.select(first + list(self.query(Cell)).index(cell))

    def action_move(self, by: int) -> None:
        self.select(self.seat + by)

    def action_row(self, by: int) -> None:
        self.select(self.seat + by * self.columns)

    def action_page(self, by: int) -> None:
        self.select(self.seat + by * self.cells)


def _view(live: LiveView, seat: int) -> SeatView:
    return live.seats.get(seat) or SeatView()

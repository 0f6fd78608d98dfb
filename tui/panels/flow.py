"""One row with the steps of the loop, those under way lit, and what no experiment may change."""

from __future__ import annotations

from textual.content import Content

from loop.state import RunState
from tui.narrow import leave_out
from tui.panels.training import Line
from tui.text import clock, safe

STEPS = {"read": "$step", "propose": "$agent", "train": "$training", "judge": "$measure", "log": "$keep"}
"""The steps of an experiment in order, and their colours."""
AFTER_TRAINING = ("evaluating", "judging")
"""Phases that a training names once its steps are done: the number is being measured."""
BUDGET = "budget "


class Flow(Line):
    """One row; a wide, high screen has room for it."""

    def show_state(self, state: RunState) -> None:
        self.show(flow(state, self.size.width or 120))


def flow(state: RunState, width: int) -> Content:
    """Steps at the left; at the right, where there is room, what is the same for all experiments."""
    lit = current(state)
    steps = Content(" → ").join(
        Content.styled(f"[{step}]", f"bold {style}")
        if step in lit
        else Content.styled(f" {step} ", "$neutral")
        for step, style in STEPS.items()
    )
    room = width - 2 - steps.cell_length - 3
    parts = shortened(fixed(state), room)
    if not parts:
        return steps
    words = Content.styled(_sentence(parts), "$neutral")
    return Content.assemble(steps, " " * (room + 3 - words.cell_length), words)


def current(state: RunState) -> set[str]:
    """The steps that are under way; several, because the next idea is prepared while one trains."""
    lit = set[str]()
    if state.stopped is not None:
        return lit
    if state.proposing:
        edited = state.live.edited
        lit.add("propose" if edited and edited.n == state.proposing.n else "read")
    if state.under_way:
        lit.add("judge" if state.seat.phase in AFTER_TRAINING else "train")
    if state.in_phase("judging"):
        lit.add("judge")
    if state.rows_due:
        lit.add("log")
    return lit


def fixed(state: RunState) -> list[str]:
    """What every experiment has in common: data, vocabulary, context, budget, metric; in this order."""
    trainings = state.experiments[0].trainings if state.experiments else []
    about = next((t.finished.about for t in trainings if t.finished), "")
    found = [part.strip() for part in safe(about).split(", ") if part.strip()]
    if state.engine:
        why = f" ({safe(state.engine.budget_why)})" if state.engine.budget_why else ""
        found.append(f"{BUDGET}{clock(state.engine.budget_s)}{why}")
    if state.tag:
        found.append(f"{safe(state.metric)} {'lower' if state.direction == 'min' else 'higher'} is better")
    return found


def shortened(parts: list[str], room: int) -> list[str]:
    """The parts that fit into `room` columns: the reason for the budget goes first, the budget goes last."""

    def fits(chosen: list[str]) -> bool:
        return len(_sentence(chosen)) <= room

    if not fits(parts):
        parts = [part.partition(" (")[0] if part.startswith(BUDGET) else part for part in parts]
    left = leave_out(parts, fits, lambda part: not part.startswith(BUDGET))
    return left if fits(left) else []


def _sentence(parts: list[str]) -> str:
    return f"fixed: {' · '.join(parts)}"

"""How long each training of a run trains, where nobody has said so.

On a CPU a training of 300 seconds learns little more than one of a minute, and a first verdict would take ten
minutes. Numbers of different budgets cannot be compared, so a run has one budget from its first training on.
"""

from __future__ import annotations

import msgspec

from loop.config import OUR_TRAINER, Settings
from loop.errors import UsageError
from loop.state import RunState

FULL_S, CPU_S = 300.0, 60.0
"""Seconds for a training, and for one of this project's trainer on a machine without an NVIDIA GPU."""


def settled(settings: Settings, state: RunState, *, has_gpu: bool) -> tuple[Settings, str]:
    """The settings with the budget of the run in `state`; for a new run what was asked for, or what suits.

    Beside it, why that is shorter than usual although nobody asked for it; empty where it is not.
    `has_gpu` says whether this machine has an NVIDIA GPU; on a cluster every training has the full budget.
    Raises `UsageError` where another budget was asked for than the run's, or the time-out is below it.
    """
    asked, before_s = settings.budget_s, _budget_of(state)
    if asked and before_s and asked != before_s:
        raise UsageError(
            f"each training of run {state.tag} has {before_s:g} s, and numbers of {asked:g} s cannot be "
            f"compared with theirs: give --budget {before_s:g}, or begin another run with --tag NAME"
        )
    on_cpu = settings.executor == "local" and settings.path == OUR_TRAINER and not has_gpu
    budget_s = asked or before_s or (CPU_S if on_cpu else FULL_S)
    if settings.timeout_s and settings.timeout_s < budget_s:
        raise UsageError("the time-out must be at least the budget (0: twice the budget)")
    short = on_cpu and not asked and (not before_s or _was_short(state))
    why = f"short without a GPU; --budget {FULL_S:g} in a new run" if short else ""
    return msgspec.structs.replace(settings, budget_s=budget_s), why


def _was_short(state: RunState) -> bool:
    """Whether an earlier engine of this run chose the budget."""
    return state.engine is not None and bool(state.engine.budget_why)


def _budget_of(state: RunState) -> float:
    """The budget of the run's first training that has ended; 0 before there is a number to compare with."""
    return next((t.budget_s for e in state.experiments for t in e.trainings if t.finished), 0.0)

"""Makes trainings for tests, as the state holds them."""

from __future__ import annotations

from typing import Any

from loop import events as ev
from loop.state import Training


def training(
    number: int = 1,
    commit: str = "c1",
    value: float | None = 1.0,
    *,
    n: int = 1,
    seed: int | None = None,
    budget_s: float = 300.0,
    started_at: float = 0.0,
    finished_at: float | None = None,
    seat: int = 0,
    **finished: Any,
) -> Training:
    """A training of experiment `n` that has ended: finished with this value, or crashed without one.

    `finished` are more fields of its `TrainingFinished`. Seeds count up from 1337, as the engine's do.
    """
    started = ev.TrainingStarted(n, number, commit, 1336 + number if seed is None else seed, budget_s, seat)
    finished.setdefault("outcome", "crashed" if value is None else "finished")
    ended = ev.TrainingFinished(n, number, value=value, **finished)
    found = Training(started, started_at)
    found.ended(ended, started_at + budget_s if finished_at is None else finished_at)
    return found

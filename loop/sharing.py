"""Lets the events that a long run keeps in memory share what is equal in them.

A commit's name is in five events of its experiment, most lists are empty, and many numbers are the same in
every training. Decoded one by one each of them would be an object of its own.
"""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import force_setattr

from loop import events as ev
from loop.experiment import NO_NUMBERS, Experiment, Training

T = TypeVar("T", bound=Struct)

FIELDS: dict[type, tuple[str, ...]] = {
    ev.ExperimentStarted: ("n", "parent"),
    ev.CandidateCommitted: ("n", "commit", "parent", "findings", "combines"),
    ev.TrainingStarted: ("n", "commit", "seed", "budget_s", "why", "needed"),
    ev.TrainingFinished: (
        "n", "reason", "value", "memory_gb", "training_seconds", "total_seconds", "flags", "data", "about",
        "place",
    ),
    ev.Judged: (
        "n", "commit", "value", "memory_gb", "reason", "delta", "evidence", "stderr", "incumbent", "short",
    ),
    Training: ("started_at", "finished_at", "names", "printed"),
    Experiment: (
        "n", "parent", "commit", "description", "hypothesis", "author", "started_at", "finished_at", "value",
        "reason", "findings", "combines", "proposing_seq", "queued_seq", "proposed_at", "agent",
    ),
}  # fmt: skip
"""Fields of what the state keeps, in which values come again."""
POOL_MOST = 10_000
"""How many values are remembered. What has equal ones mostly follows closely."""
NOTHING: list[Any] = []
"""The empty list of all events. Events are never changed."""

_pool: dict[float | str, float | str] = {}


def share(thing: T) -> T:
    """The same event, training or experiment; values that came before are the same objects as then."""
    for name in FIELDS.get(type(thing), ()):
        force_setattr(thing, name, _shared(getattr(thing, name)))
    return thing


def share_experiment(e: Experiment) -> Experiment:
    """The same experiment, which was decoded as a whole and has no events before it."""
    share(e)
    for training in e.trainings:
        share(share(training).started)
        if training.finished:
            force_setattr(share(training.finished), "summary", NO_NUMBERS)
    if e.verdict:
        share(e.verdict)
    return e


def _shared(value: Any) -> Any:
    if isinstance(value, (str, int, float)):
        if len(_pool) > POOL_MOST:
            _pool.clear()
        found = _pool.setdefault(value, value)
        return found if type(found) is type(value) else value
    return NOTHING if value == [] else value

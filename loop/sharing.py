"""Lets the events that a long run keeps in memory share what is equal in them.

A commit's name is in five events of its experiment, most lists are empty, and many numbers are the same in
every training. Decoded one by one each of them would be an object of its own.
"""

from __future__ import annotations

import sys
from typing import Any

from msgspec.structs import force_setattr

from loop import events as ev

FIELDS: dict[type, tuple[str, ...]] = {
    ev.ExperimentStarted: ("n", "parent"),
    ev.CandidateCommitted: ("n", "commit", "parent", "findings", "combines"),
    ev.TrainingStarted: ("n", "commit", "seed", "budget_s", "why"),
    ev.TrainingFinished: (
        "n", "reason", "value", "memory_gb", "training_seconds", "total_seconds", "summary", "flags", "data",
    ),
    ev.Judged: ("n", "commit", "value", "memory_gb", "evidence", "stderr", "incumbent"),
}  # fmt: skip
"""Fields of events that the state keeps, in which values come again."""
POOL_MOST = 10_000
"""How many numbers are remembered. Events with equal ones mostly follow each other closely."""
NOTHING: list[Any] = []
"""The empty list of all events. Events are never changed."""

_pool: dict[float, float] = {}


def share(event: ev.AnyEvent) -> ev.AnyEvent:
    """The same event; values that came before are the same objects as then."""
    for name in FIELDS.get(type(event), ()):
        value = getattr(event, name)
        force_setattr(event, name, _shared(value))
    return event


def _shared(value: Any) -> Any:
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, (int, float)):
        if len(_pool) > POOL_MOST:
            _pool.clear()
        found = _pool.setdefault(value, value)
        return found if type(found) is type(value) else value
    if isinstance(value, dict):
        return {key: _shared(item) for key, item in value.items()}
    return NOTHING if value == [] else value

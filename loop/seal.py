"""What our own evaluator hands over about a run, and what the engine makes of it. Pure, but for `read`.

The evaluator runs inside the candidate's process. Its word is proven by a number used once, and what it says
about time is held against the engine's own clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct

from loop.progress import metric

OVER = 0.02
"""Share of the budget that training may run over; the last step always does a little."""
OVER_S = 3.0
"""The same in seconds, for budgets so short that a step or two on a busy machine are more than that share."""
UNSEEN_S = 10.0
"""Seconds that a process may take beside what the evaluator saw of it: interpreter, end, a busy machine."""


class Sealed(Struct, frozen=True):
    """The evaluator's report; docs/formats.md tells the fields."""

    nonce: str
    val_bpb: float
    hidden_bpb: float | None = None
    data: str = ""
    training_seconds: float = 0.0
    excluded_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    total_seconds: float = 0.0
    steps: int = 0


def proof(nonce: str) -> str:
    """What the engine keeps of a nonce: on disk nothing lies that a trainer could copy."""
    return hashlib.sha256(nonce.encode()).hexdigest()


def read(path: Path, expected: str) -> Sealed | None:
    """The report in `path`, if it proves that it is this run's and its number is one."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        sealed = msgspec.json.decode(path.read_bytes(), type=Sealed)
        if secrets.compare_digest(proof(sealed.nonce), expected):
            return sealed if metric({"value": sealed.val_bpb}, "value") is not None else None
    return None


def flags(sealed: Sealed, printed: float | None, budget_s: float, wall_s: float) -> list[str]:
    """Why a measured number cannot be kept all the same."""
    found = []
    over = sealed.training_seconds - budget_s
    if over > max(OVER * budget_s, OVER_S):
        found.append(f"over budget: trained {sealed.training_seconds:.1f} s of {budget_s:g} s")
    unseen = wall_s - sealed.total_seconds
    if unseen > OVER * budget_s + UNSEEN_S:
        found.append(f"{unseen:.1f} s of its {wall_s:.1f} s passed outside the trainer's own clock")
    if printed is not None and abs(printed - sealed.val_bpb) > 1e-5:
        found.append(f"it printed val_bpb {printed:.6f}, measured was {sealed.val_bpb:.6f}")
    return found

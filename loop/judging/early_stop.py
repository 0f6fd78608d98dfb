"""Runs that cannot come to anything, seen while they train. Pure, and conservative: a stopped run that would
have been kept costs more than the time of ten that would not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from loop.events import CurvePoint

NANS = 3
"""Progress lines in a row without a finite loss."""
SINCE = 0.05
"""Share of the budget before which a loss may do what it likes."""
EXPLODED = 2.0
"""A loss so many times its first one has left the ground for good."""
LOOK_FROM = 0.5
"""Share of the budget from which a run is compared with the incumbent's."""
SLOWER = 3
"""A run is far behind when it is where the incumbent was at a third of its progress."""
MARGIN = 0.05
"""... and that by this share of what the incumbent's loss fell in all."""
WINDOW = 0.05
"""Share of the budget over which losses are averaged: single steps scatter."""


def doomed(curve: Sequence[CurvePoint], nans: int, incumbent: Sequence[CurvePoint]) -> str | None:
    """Why a run should end now; None to let it go on. `nans` counts the last lines without a finite loss,
    `incumbent` is the curve of a run of the incumbent, empty when there is none."""
    if nans >= NANS:
        return "its loss is not finite"
    if len(curve) < 10 or curve[-1].fraction < SINCE:
        return None
    now, first = curve[-1].fraction, curve[0].loss
    recent = _around(curve, now)
    if first > 0 and recent is not None and recent > EXPLODED * first:
        return f"its loss exploded: {first:.4g} at first, {recent:.4g} at {100 * now:.0f}%"
    if now < LOOK_FROM or len(incumbent) < 10 or recent is None:
        return None
    then, start, end = (_around(incumbent, at) for at in (now / SLOWER, 2 * WINDOW, 1.0))
    if then is None or start is None or end is None or not start > end:
        return None
    if recent > then + MARGIN * (start - end):
        return (
            f"far behind: loss {recent:.4g} at {100 * now:.0f}%, "
            f"the incumbent was at {then:.4g} after a third of that"
        )
    return None


def _around(curve: Sequence[CurvePoint], fraction: float) -> float | None:
    """The usual loss in the window that ends at `fraction`; None without enough points."""
    losses = [p.loss for p in curve if fraction - WINDOW <= p.fraction <= fraction and math.isfinite(p.loss)]
    return median(losses) if len(losses) >= 2 else None

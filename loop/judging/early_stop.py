"""Whether a training cannot end well any more, judged by its loss curve while it trains. Pure.

The thresholds are cautious: to stop one training that would have been kept costs more than the time of ten
that would not.
"""

from __future__ import annotations

from collections.abc import Sequence

from loop.events import CurvePoint
from loop.judging.forecast import WINDOW, Forecast, level

NANS = 3
"""A training is stopped after this many progress lines in a row without a finite loss."""
POINTS = 10
"""Points that a loss curve needs before it is judged."""
SINCE = 0.05
"""Share of the budget from which a loss is judged; early in training it may rise and come back."""
EXPLODED = 2.0
"""A training is stopped when its loss is this many times its first loss: it will not come down again."""
LOOK_FROM = 0.5
"""Share of the budget from which a training is compared with the incumbent's."""
SLOWER = 3
"""Compare with the incumbent's loss at a third of the present time: whoever is worse learns over three times
slower."""
MARGIN = 0.05
"""It is worse if its loss is higher by more than this share of what the incumbent's loss fell in all."""

CHANCE = 0.0001
"""A training is stopped when its chance to become better than the incumbent is below this. Measured: at most
1 of 200 true improvements is lost (benchmarks/forecast.py); at 0.001 it was 1 of 55 in long runs."""


def doomed(
    curve: Sequence[CurvePoint],
    nans: int,
    incumbent: Sequence[CurvePoint],
    forecast: Forecast | None = None,
) -> str | None:
    """Why a training should end now, as a sentence; None to let it go on.

    `curve` are its finite losses so far, `nans` counts the newest progress lines without a finite loss, and
    `incumbent` is the loss curve of a training of the incumbent, empty when there is none. `forecast` is what
    the trainings of the run so far teach, if there are enough.
    """
    if nans >= NANS:
        return "its loss is not finite"
    if len(curve) < POINTS or curve[-1].fraction < SINCE:
        return None
    now, first = curve[-1].fraction, curve[0].loss
    recent = level(curve, now)
    if first > 0 and recent is not None and recent > EXPLODED * first:
        return f"its loss exploded: {first:.4g} at first, {recent:.4g} at {100 * now:.0f}%"
    chance = forecast.chance(curve) if forecast else None
    if chance is not None and chance < CHANCE:
        return (
            f"at {100 * now:.0f}% its chance to become better than the incumbent is {chance:.2%}, "
            "by the curves of the trainings before it"
        )
    if now < LOOK_FROM or len(incumbent) < POINTS or recent is None:
        return None
    then, start, end = (level(incumbent, at) for at in (now / SLOWER, 2 * WINDOW, 1.0))
    if then is None or start is None or end is None or not start > end:
        return None
    if recent > then + MARGIN * (start - end):
        return (
            f"far behind: loss {recent:.4g} at {100 * now:.0f}%, "
            f"the incumbent was at {then:.4g} after a third of that"
        )
    return None

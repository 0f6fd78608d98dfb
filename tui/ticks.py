"""Round numbers for the axes of plots; pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

ROUND = (1, 2, 5, 10, 20)
"""Steps between two ticks, times a power of ten. The last one is for a range that fits a step exactly."""

SMALLEST = 1e-9
"""Shorter ranges, in units of the axis and as a share of its numbers, get one tick: what is closer together
cannot be told apart in a few digits."""
LARGEST = 1e12
"""What a trainer prints may be any number. Larger ones are not drawn: plotext ends with an error there."""
LARGE = 1e6
"""From here on numbers are written with an exponent where they are long."""


def ticks(low: float, high: float, most: int, least: float = 0.0) -> tuple[list[float], list[str]]:
    """Round numbers from `low` to `high` with equal steps between them, and each as a text.

    There are at most `most` of them (2 or more), and the step is at least `least`. Where no round number
    lies within, `low` stands alone.
    """
    if not max(SMALLEST, SMALLEST * abs(low), SMALLEST * abs(high)) < high - low < math.inf:
        return [low], [f"{low:g}"]
    power = 10.0 ** math.floor(math.log10(max((high - low) / most, least)))
    step = next(s * power for s in ROUND if s * power >= least and _count(low, high, s * power) <= most)
    first = math.ceil(low / step - 1e-9)
    found = [(first + i) * step for i in range(_count(low, high, step))]
    return (found, _texts(found, step)) if found else ([low], [f"{low:g}"])


def _count(low: float, high: float, step: float) -> int:
    """How many multiples of `step` there are from `low` to `high`."""
    return max(0, math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) + 1)


def _texts(numbers: Sequence[float], step: float) -> list[str]:
    """All with as many digits as the step needs."""
    largest = max(map(abs, numbers))
    digits = max(0, -_exponent(step))
    if largest < LARGE:
        return [f"{number:.{digits}f}" for number in numbers]
    return [f"{number:.{max(6, _exponent(largest) - _exponent(step) + 1)}g}" for number in numbers]


def _exponent(number: float) -> int:
    """The power of ten of its first digit."""
    return math.floor(math.log10(number) + 1e-9)

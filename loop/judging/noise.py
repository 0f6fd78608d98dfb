"""How much the metric moves when nothing but the seed changes, and how large a difference must be to count.

Trainings of one commit with different seeds are replicates; their spread is the noise. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import NormalDist, fmean

from msgspec import Struct


class Noise(Struct, frozen=True):
    """An estimate of the noise."""

    deviation: float = 0.0
    """Standard deviation of the metric of one training; 0 while nothing is known."""
    degrees: int = 0
    """Degrees of freedom of the estimate: for each commit, its trainings less one. 0: nothing is known."""

    @property
    def known(self) -> bool:
        return self.degrees > 0

    @property
    def none(self) -> bool:
        """All replicates had equal values: this trainer ignores its seed, so that any difference is real."""
        return self.known and self.deviation == 0.0

    def of_difference(self, ours: int, theirs: int) -> float:
        """Standard error of the difference between a mean of `ours` and a mean of `theirs` trainings."""
        return self.deviation * math.sqrt(1 / ours + 1 / theirs)


def pooled(groups: Iterable[Sequence[float]]) -> Noise:
    """The noise that replicates show: the pooled standard deviation. Each group holds one commit's values."""
    squares, degrees = 0.0, 0
    for values in groups:
        if len(values) > 1:
            mean = fmean(values)
            # Values that are all equal are no noise, even where their mean rounds.
            squares += sum((v - mean) ** 2 for v in values) if min(values) != max(values) else 0.0
            degrees += len(values) - 1
    return Noise(math.sqrt(squares / degrees) if degrees else 0.0, degrees)


@lru_cache(maxsize=4096)
def needed(error: float, degrees: int) -> float:
    """How many standard errors a difference must have, so that luck alone makes one with chance `error`.

    That is the upper quantile of Student's t distribution: with few degrees of freedom the noise itself is
    uncertain, and more is needed. It is found by bisection.
    """
    if degrees > 200:
        return NormalDist().inv_cdf(1 - error)
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if _upper_tail(middle, degrees) < error else (middle, high)
    return high


def _upper_tail(t: float, degrees: int) -> float:
    """Chance that Student's t with this whole number of degrees of freedom is above `t` >= 0.

    Closed form by Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    total, term = 0.0, 1.0
    if degrees % 2:
        term = cosine
        for k in range(1, degrees - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        within = 2 / math.pi * (angle + sine * total)
    else:
        for k in range(0, degrees, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        within = sine * total
    return (1 - within) / 2

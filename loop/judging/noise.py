"""How much a metric moves when nothing changes but the seed, and what that is worth as evidence. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import NormalDist, fmean

from msgspec import Struct


class Noise(Struct, frozen=True):
    """Standard deviation of one run, pooled over every commit that was run more than once.

    `degrees` counts the replicates behind it: 0 means that nothing is known, and `deviation` is then 0.
    """

    deviation: float = 0.0
    degrees: int = 0

    @property
    def known(self) -> bool:
        return self.degrees > 0

    @property
    def none(self) -> bool:
        """Replicates were all alike: this trainer ignores its seed, so any difference is real."""
        return self.known and self.deviation == 0.0

    def of_difference(self, ours: int, theirs: int) -> float:
        """Standard error of the difference between a mean of `ours` and a mean of `theirs` runs."""
        return self.deviation * math.sqrt(1 / ours + 1 / theirs)


def pooled(groups: Iterable[Sequence[float]]) -> Noise:
    """The noise that replicates show; each group holds one configuration's values."""
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
    """How many standard errors are needed so that luck alone gets there with chance `error`.

    Student's t: with few replicates the noise itself is uncertain, and more is needed.
    """
    if degrees > 200:
        return NormalDist().inv_cdf(1 - error)
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if _upper_tail(middle, degrees) < error else (middle, high)
    return high


def _upper_tail(t: float, degrees: int) -> float:
    """Chance that Student's t with these (whole) degrees of freedom is above `t` >= 0, in closed form."""
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

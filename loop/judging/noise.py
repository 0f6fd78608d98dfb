"""How much the metric moves when nothing but the seed changes. Pure.

Trainings of one commit with different seeds are replicates; their spread is the noise. A run begins with few
of them, so the estimate starts from what trainings usually show and counts that as some replicates more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import NormalDist, fmean

from msgspec import Struct

USUAL_BPB, BPB_WEIGHT = 0.0015, 4
"""Deviation of val_bpb that trainings usually show, and how many degrees of freedom it counts as.

Measured: 0.0007 to 0.002 on an H100 with 300 s, 0.0024 on a CPU with 500 s, 0.0028 with 60 s
(docs/benchmarks.md).
"""
USUAL_SHARE, SHARE_WEIGHT = 0.002, 2
"""The same for a metric of which nothing is known: a share of the baseline's value, and a smaller weight."""
RARE = 1.75
"""Standard normal quantile of one in twenty-five: what is rarer counts only as much as this, see `pooled`."""
ROUNDS = 12
"""Repetitions after which the pooled deviation no longer changes."""


class Noise(Struct, frozen=True):
    """An estimate of the noise."""

    deviation: float = 0.0
    """Standard deviation of the metric of one training; 0 while nothing is known."""
    degrees: int = 0
    """Degrees of freedom of the estimate: for each commit its trainings less one, and the weight of what was
    known before. 0: nothing is known."""

    @property
    def known(self) -> bool:
        return self.degrees > 0

    @property
    def none(self) -> bool:
        """All replicates had equal values: this trainer ignores its seed, so that any difference is real."""
        return self.known and self.deviation == 0.0

    @property
    def caution(self) -> float:
        """Factor by which standard errors are taken larger, because the deviation is an estimate itself.

        It is the ratio of the 95% quantiles of Student's t and the normal distribution.
        """
        return needed(0.05, self.degrees) / needed(0.05, 1_000_000) if self.known else 1.0

    def of_difference(self, ours: int, theirs: int) -> float:
        """Standard error of the difference between a mean of `ours` and a mean of `theirs` trainings."""
        return self.deviation * math.sqrt(1 / ours + 1 / theirs)


def usual(metric: str, baseline: float) -> Noise:
    """What trainings usually show of this metric, where the unchanged code has the value `baseline`."""
    if metric == "val_bpb":
        return Noise(USUAL_BPB, BPB_WEIGHT)
    return Noise(USUAL_SHARE * abs(baseline), SHARE_WEIGHT) if baseline else Noise()


def pooled(groups: Iterable[Sequence[float]], usual: Noise | None = None) -> Noise:
    """The noise that replicates show, joined with what is usual. Each group holds one commit's values.

    The mean of the posterior's scaled inverse chi-square distribution, with two protections. A group that
    scatters more than the others let expect once in twenty-five times counts only that much: one candidate
    that trains unsteadily does not blind the judge for all others. And where the replicates contradict the
    usual deviation, it moves towards them. Nothing is known before the first replicate.
    """
    found = [(_squares(values), len(values) - 1) for values in groups if len(values) > 1]
    degrees = sum(own for _, own in found)
    if not degrees or not any(squares for squares, _ in found):
        return Noise(0.0, degrees)
    weight, expected = (usual.degrees, usual.deviation**2) if usual else (0, 0.0)
    variance = shown = _median(found)
    for _ in range(ROUNDS):
        before = weight * _believable(expected, shown, degrees)
        squares = _winsorised(found, before, weight, variance)
        shown, variance = squares / degrees, (before + squares) / (weight + degrees)
    return Noise(math.sqrt(variance), weight + degrees)


def near_in_time(values: Sequence[float], first: int) -> list[Sequence[float]]:
    """One commit's values in groups near in time, so that no drift of the machine is taken for noise.

    The `first` values were measured together, the later ones of an incumbent two by two at most.
    """
    first = max(2, first)
    return [values[:first], *(values[i : i + 2] for i in range(first, len(values), 2))]


def own_scatter(values: Sequence[float], noise: Noise) -> float:
    """Deviation by which one commit's trainings are judged: more than the common one if they scatter more."""
    degrees = len(values) - 1
    if degrees < 1 or noise.none:
        return noise.deviation
    squares = _squares(values)
    if squares <= degrees * _quantile(degrees, RARE) * noise.deviation**2:
        return noise.deviation
    return math.sqrt((BPB_WEIGHT * noise.deviation**2 + squares) / (BPB_WEIGHT + degrees))


def _median(found: list[tuple[float, int]]) -> float:
    """A variance to begin with, which one wild group of three or more does not move; never 0."""
    variances = sorted(squares / own for squares, own in found if squares)
    return variances[(len(variances) - 1) // 2]


def _winsorised(found: list[tuple[float, int]], before: float, weight: int, variance: float) -> float:
    """The sum of all squares, with those of every group cut at what all the others let expect.

    `before` and `weight` are the squares and degrees of what was known; groups are cut at `variance` first.
    """
    cut = [min(squares, own * _quantile(own, RARE) * variance) for squares, own in found]
    total, degrees = before + sum(cut), weight + sum(own for _, own in found)
    again = 0.0
    for (squares, own), was in zip(found, cut, strict=True):
        others = (total - was) / (degrees - own) if degrees > own else 0.0
        again += min(squares, own * _quantile(own, RARE) * others) if others else squares
    return again


def _believable(usual: float, variance: float, degrees: int) -> float:
    """The usual variance, moved to where the replicates' own variance no longer contradicts it (at 1%)."""
    low, high = _quantile(degrees, -2.33), _quantile(degrees, 2.33)
    return max(variance / high, min(usual, variance / low if low > 0 else usual))


@lru_cache(maxsize=1024)
def _quantile(degrees: int, z: float) -> float:
    """Quantile of chi-square over its degrees of freedom at the normal quantile `z` (Wilson and Hilferty)."""
    spread = 2 / (9 * degrees)
    return max(0.0, 1 - spread + z * math.sqrt(spread)) ** 3


def _squares(values: Sequence[float]) -> float:
    """Sum of squared differences from the mean. Equal values have none, even where their mean rounds."""
    if min(values) == max(values):
        return 0.0
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values)


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

"""What a measured gain is worth believing: an empirical Bayes mixture of what ideas do. Pure.

Most ideas change nothing, many hurt, some help. A `Kind` says how many and by how much; `believe` joins the
kinds with what was measured: the chance that an idea truly helps, and the gain to expect. `learn` fits the
kinds to the ideas that a run has tried, starting from what is known of other runs. All gains are in
standard deviations of one training, so that the same figures serve every metric and budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct


class Kind(Struct, frozen=True):
    """One kind of ideas: their share of all, and how much they change on average (negative: for the worse).

    A kind's gains are distributed exponentially; ideas that change nothing have the mean 0.
    """

    share: float
    mean: float


PRIOR = (Kind(0.25, 0.0), Kind(0.22, 0.8), Kind(0.055, 7.5), Kind(0.475, -3.0))
"""What ideas do before a run has tried any: nothing, a little good, much good, harm."""
SHARE_WEIGHT, MEAN_WEIGHT = 60.0, 20.0
"""How many tried ideas the prior counts as much as: for the shares, and for each kind's mean."""
ROUNDS = 6
"""Steps of expectation and maximisation from the prior: each next one changes little."""


NOT_ADDITIVE = 0.5
"""Deviation of a combination's gain from the sum of its parts, as a share of that sum."""
ROOT = math.sqrt(2 * math.pi)


class Belief(Struct, frozen=True):
    """What is believed of one idea after it was measured, in standard deviations of one training."""

    helps: float
    """Chance that it truly helps."""
    gain: float
    """Gain to expect: the mean over all that it may be."""
    variance: float
    """How far the true gain may be from that, squared."""
    upside: float
    """The expected gain with every loss counted as nothing."""


def believe(gain: float, error: float, kinds: Sequence[Kind] = PRIOR) -> Belief:
    """What a measured gain with this standard error says about an idea."""
    parts = [_part(gain, error, kind.mean) for kind in kinds]
    weights = _weights(parts, kinds)
    helps = upside = mean = square = 0.0
    for weight, (_, first, second), kind in zip(weights, parts, kinds, strict=True):
        mean += weight * first
        square += weight * second
        if kind.mean > 0:
            helps += weight
            upside += weight * first
    return Belief(helps, mean, max(0.0, square - mean * mean), upside)


def believe_together(gain: float, error: float, parts: Sequence[Belief]) -> Belief:
    """What is believed of a combination of ideas, each with its own belief, after it was measured.

    The sum of the parts is what to expect before. How well gains add up is uncertain, by `NOT_ADDITIVE`.
    """
    expected = sum(part.gain for part in parts)
    variance = sum(part.variance for part in parts) + (NOT_ADDITIVE * expected) ** 2
    after = 1 / (1 / variance + 1 / error**2)
    mean = after * (expected / variance + gain / error**2)
    score = mean / math.sqrt(after)
    helps = 0.5 * math.erfc(-score / math.sqrt(2))
    upside = mean * helps + math.sqrt(after) * math.exp(-0.5 * score * score) / ROOT
    return Belief(helps, mean, after, upside)


def likelihood(gain: float, error: float, kinds: Sequence[Kind]) -> float:
    """Log of how likely this measured gain is, whatever kind the idea is of."""
    logs = [_part(gain, error, kind.mean)[0] + math.log(kind.share) for kind in kinds]
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs))


def chance_rate(kinds: Sequence[Kind]) -> float:
    """Gain that a new idea brings on average, if every one that helps were found."""
    return sum(kind.share * kind.mean for kind in kinds if kind.mean > 0)


def _weights(parts: Sequence[tuple[float, float, float]], kinds: Sequence[Kind]) -> list[float]:
    logs = [part[0] + math.log(kind.share) for part, kind in zip(parts, kinds, strict=True)]
    top = max(logs)
    weights = [math.exp(value - top) for value in logs]
    total = sum(weights)
    return [weight / total for weight in weights]


def _part(gain: float, error: float, mean: float) -> tuple[float, float, float]:
    """For one kind: log density of the measured gain, and the true gain's mean and mean square given it."""
    if mean == 0:
        return -0.5 * (gain / error) ** 2 - math.log(error * ROOT), 0.0, 0.0
    sign = 1.0 if mean > 0 else -1.0
    x = sign * gain / error - error / abs(mean)
    log_below, hazard = _tail(x)
    density = -math.log(abs(mean)) + 0.5 * (error / mean) ** 2 - gain / mean + log_below
    first = error * (x + hazard)
    second = error * error * (1 + x * x + x * hazard)
    return density, sign * first, second


def _tail(x: float) -> tuple[float, float]:
    """Log of the standard normal distribution function, and density over distribution, at `x`."""
    if x > -8:
        below = 0.5 * math.erfc(-x / math.sqrt(2))
        return math.log(below), math.exp(-0.5 * x * x) / ROOT / below
    ratio = 1 - 1 / x**2 + 3 / x**4 - 15 / x**6  # asymptotic series, Abramowitz and Stegun 26.2.12
    return -0.5 * x * x - math.log(-x * ROOT) + math.log(ratio), -x / ratio


@lru_cache(maxsize=64)
def learn(measured: tuple[tuple[float, float], ...], prior: tuple[Kind, ...] = PRIOR) -> tuple[Kind, ...]:
    """The kinds of ideas that a run's measured gains show, each with its standard error."""
    kinds = prior
    for _ in range(ROUNDS):
        counts = [SHARE_WEIGHT * kind.share for kind in prior]
        sizes = [0.0] * len(prior)
        owned = [0.0] * len(prior)
        for gain, error in measured:
            parts = [_part(gain, error, kind.mean) for kind in kinds]
            for k, weight in enumerate(_weights(parts, kinds)):
                counts[k] += weight
                owned[k] += weight
                sizes[k] += weight * parts[k][1]
        total = sum(counts)
        kinds = tuple(
            Kind(counts[k] / total, (MEAN_WEIGHT * kind.mean + sizes[k]) / (MEAN_WEIGHT + owned[k]))
            for k, kind in enumerate(prior)
        )
    return kinds

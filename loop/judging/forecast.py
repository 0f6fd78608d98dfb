"""Forecasts from its loss curve whether a training can still become better than the incumbent. Pure.

A loss falls about like a power of time, so where it will end follows from where it is and from how much the
last doubling of the time has brought. How exactly differs from run to run. So the trainings of the run that
have ended teach it: a Bayesian linear regression of their metric on loss, fall and squared fall, all counted
from the incumbent's, at the same share of the budget. Its posterior says how likely the metric ends below the
incumbent's. Bayesian regression: Gelman et al., Bayesian Data Analysis (2013), chapter 14.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from loop.events import CurvePoint

LOOKS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the budget at which a training is looked at."""
LEAST = 16
"""Trainings that must have ended before anything is forecast."""
NEWEST = 60
"""So many of the newest trainings are learned from."""
PRIOR = 2.0
"""The prior, that nothing can be told from a curve, weighs as much as so many trainings."""
WINDOW = 0.05
"""Share of the budget over which the median of the losses is taken: single steps scatter."""
Features = tuple[float, float, float]
"""Loss, its fall over the last doubling of the time, and that squared."""


class Ended(Struct, frozen=True):
    """A training of this run that has ended."""

    curve: list[CurvePoint]
    value: float
    """The metric of its experiment."""


class Forecast:
    """What the ended trainings of a run teach about one that goes on."""

    def __init__(self, incumbent: Ended, ended: Sequence[Ended], *, minimise: bool = True) -> None:
        self._sign = 1.0 if minimise else -1.0
        self._here = {look: features(incumbent.curve, look) for look in LOOKS}
        self._known: dict[float, list[tuple[Features, float]]] = {}
        for look in LOOKS:
            here = self._here[look]
            rows = [(features(e.curve, look), e.value - incumbent.value) for e in ended[-NEWEST:]]
            self._known[look] = [(_minus(x, here), self._sign * y) for x, y in rows if x and here]
        self._told: dict[float, float | None] = {}

    def chance(self, curve: Sequence[CurvePoint]) -> float | None:
        """How likely a training with this curve becomes better than the incumbent, at the last of `LOOKS`
        that it has passed; None when too little is known. It remembers its answers: one forecast serves one
        training."""
        now = curve[-1].fraction if curve else 0.0
        look = max((look for look in LOOKS if look <= now), default=None)
        if look is None:
            return None
        if look not in self._told:
            self._told[look] = self._chance(features(curve, look), look)
        return self._told[look]

    def _chance(self, own: Features | None, look: float) -> float | None:
        here, known = self._here[look], self._known[look]
        if own is None or here is None or len(known) < LEAST:
            return None
        mean, deviation = predict(known, _minus(own, here))
        return 0.5 * math.erfc(mean / deviation / math.sqrt(2)) if deviation else None


def features(curve: Sequence[CurvePoint], share: float) -> Features | None:
    """What a curve shows at a share of the budget; None where it has too few points."""
    now, half = level(curve, share), level(curve, share / 2)
    if now is None or half is None:
        return None
    fall = (half - now) / math.log(2)
    return now, fall, fall * fall


def level(curve: Sequence[CurvePoint], share: float) -> float | None:
    """The median loss in the window that ends at a share of the budget; None with fewer than two points."""
    losses = [p.loss for p in curve if share - WINDOW <= p.fraction <= share and math.isfinite(p.loss)]
    return median(losses) if len(losses) >= 2 else None


def predict(known: Sequence[tuple[Features, float]], x: Features) -> tuple[float, float]:
    """Mean and standard deviation of the posterior prediction at `x`, the noise of a training included.

    The coefficients have independent normal priors around 0. The variance of the posterior's Student
    distribution is taken for that of a normal one.
    """
    size, n = len(x), len(known)
    moments = [[sum(row[i] * row[j] for row, _ in known) for j in range(size)] for i in range(size)]
    prior = [PRIOR * moments[i][i] / n + 1e-12 for i in range(size)]
    grown = [[moments[i][j] + (prior[i] if i == j else 0.0) for j in range(size)] for i in range(size)]
    weights = solve(grown, [sum(row[i] * y for row, y in known) for i in range(size)])
    rest = sum((y - _dot(weights, row)) ** 2 for row, y in known)
    rest += sum(p * w * w for p, w in zip(prior, weights, strict=True))
    free = n - size
    variance = rest / (free - 2) * (1 + _dot(x, solve(grown, list(x))))
    return _dot(weights, x), math.sqrt(variance)


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """The solution of a symmetric positive definite system of linear equations, by elimination."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            row[i:] = [a - factor * b for a, b in zip(row[i:], pivot[i:], strict=True)]
    found = [0.0] * len(rows)
    for i in reversed(range(len(rows))):
        found[i] = (rows[i][-1] - _dot(rows[i][i + 1 : -1], found[i + 1 :])) / rows[i][i]
    return found


def _minus(x: Features, here: Features) -> Features:
    return x[0] - here[0], x[1] - here[1], x[2] - here[2]


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))

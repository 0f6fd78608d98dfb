"""What a run has learned about its hyperparameters: a Gaussian process over past experiments. numpy only.

Its assumptions are those of the task: hyperparameters act mostly for themselves (a sum of one smooth function
each, and a little together), a few matter much and most hardly, the incumbent is already decent (far moves
lose on average), and numbers are noisy. Versions of the code have levels of their own: what is learned about
a hyperparameter carries over to the next version, its level does not.

docs/agents.md has figures beside random search and Optuna's TPE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Array = NDArray[np.float64]

REACH = 0.25
"""Distance, in shares of a range, over which results say something about each other."""
CAUTION = 4.0
"""How fast far moves are expected to lose, in typical effects for a squared distance of one."""
TOGETHER = 0.1
"""Share of what hyperparameters do together."""
LEVEL = 1.0
"""Variance of the level of a version of the code."""
FITS = 4
"""Rounds in which the weight of each hyperparameter is refitted."""
CRASH = 1.0
"""A crash counts as so many typical effects worse than the incumbent."""
MOST = 250
"""Past experiments that are looked at, the latest ones."""


class Point(Struct, frozen=True):
    """One experiment: where it was, which version of the code, and what came of it (lower is better)."""

    place: tuple[float, ...]
    code: str
    value: float | None = None
    """None for one that crashed or is still in training."""
    pending: bool = False


class Surrogate:
    """Fitted to `points` around the incumbent at `place`, whose value is `value`."""

    def __init__(self, points: Sequence[Point], place: Sequence[float], code: str, value: float) -> None:
        done = [p for p in points if not p.pending][-MOST:]
        self._now, self._code = np.array(place), code
        self._x = np.array([p.place for p in done]).reshape(len(done), len(place))
        self._codes = [p.code for p in done]
        self._y, self.unit = _in_units(done, code, value)
        self._weights, self._noise = np.full(len(place), 1.0), 0.1
        if len(done) >= 4:
            self._fit()
        self._solve()
        self._believe([p for p in points if p.pending])

    def _fit(self) -> None:
        """Common weight and noise by likelihood, then each hyperparameter's own weight."""
        grid = [(w, noise) for w in (0.1, 0.3, 1.0, 3.0) for noise in (0.03, 0.1, 0.3, 1.0)]
        count = len(self._now)
        common, self._noise = max(grid, key=lambda g: self._likelihood(np.full(count, g[0]), g[1]))
        self._weights = np.full(count, common)
        moved = np.ptp(self._x, axis=0) > 0
        for _ in range(FITS):
            self._solve()
            distance = self._x[:, None, :] - self._x[None, :, :]
            parts = np.einsum("ijk,j->ik", self._weights * _bell(distance), self._pull)
            effect = np.max((parts - parts[0]) ** 2, axis=0)
            self._weights = np.where(moved, (2 * common + 4 * effect) / 3, common)

    def _likelihood(self, weights: Array, noise: float) -> float:
        self._weights, self._noise = weights, noise
        self._solve()
        rest = self._y - self._mean(self._x)
        return float(-0.5 * rest @ self._pull - np.log(np.diag(self._root)).sum())

    def _solve(self) -> None:
        cover = self._cover(self._x, self._codes, self._x, self._codes)
        self._root = np.linalg.cholesky(cover + (self._noise + 1e-8) * np.eye(len(self._x)))
        rest = self._y - self._mean(self._x)
        self._pull = np.linalg.solve(self._root.T, np.linalg.solve(self._root, rest))

    def _believe(self, pending: Sequence[Point]) -> None:
        """Take what is in training for what it is expected to be: so that the next idea is another one."""
        for point in pending:
            x = np.array([point.place])
            guess, _ = self._expect(x, [point.code])
            self._x, self._y = np.vstack([self._x, x]), np.append(self._y, guess)
            self._codes.append(point.code)
            self._solve()

    def _mean(self, x: Array) -> Array:
        distance: Array = (x - self._now) ** 2
        lost: Array = CAUTION * (distance * np.sqrt(self._weights)).sum(axis=1)
        return lost

    def _cover(self, a: Array, codes_a: list[str], b: Array, codes_b: list[str]) -> Array:
        distance = a[:, None, :] - b[None, :, :]
        alone = (self._weights * _bell(distance)).sum(axis=2)
        joint = np.exp(-(distance**2).sum(axis=2) / (8 * REACH**2)) * math.sqrt(a.shape[1])
        same = np.array([[c == d for d in codes_b] for c in codes_a], dtype=float).reshape(len(a), len(b))
        both: Array = alone + TOGETHER * self._weights.mean() * joint + LEVEL * same
        return both

    def _expect(self, x: Array, codes: list[str]) -> tuple[Array, Array]:
        """Mean, and covariance with the last of `x`; all in units."""
        across = self._cover(x, codes, self._x, self._codes)
        mean = self._mean(x) + across @ self._pull
        known = np.linalg.solve(self._root, across.T)
        return mean, known

    def gains(self, places: Sequence[Sequence[float]]) -> list[Gain]:
        """What is to be expected of each place beside the incumbent, without the noise of a run."""
        x = np.vstack([np.array(places), self._now])
        codes = [self._code] * len(x)
        mean, known = self._expect(x, codes)
        own = self._cover(x[:1], codes[:1], x[:1], codes[:1])[0, 0]  # the same everywhere
        with_now = self._cover(x, codes, x[-1:], codes[-1:])[:, 0] - known.T @ known[:, -1]
        variance = own - (known**2).sum(axis=0)
        spread = np.sqrt(np.maximum(variance + variance[-1] - 2 * with_now, 1e-12))
        gain = mean[-1] - mean
        return [
            Gain(float(g) * self.unit, float(s) * self.unit, _expected(float(g), float(s)))
            for g, s in zip(gain[:-1], spread[:-1], strict=True)
        ]


class Gain(Struct, frozen=True):
    """How much better than the incumbent a place is thought to be, give or take, and the expected improvement
    (in no unit: for ranking)."""

    mean: float
    spread: float
    worth: float


def _in_units(done: list[Point], code: str, value: float) -> tuple[Array, float]:
    """Values in typical effects, and one such: of the incumbent's code beside the incumbent, of other code
    beside its mean."""
    groups: dict[str, list[float]] = {}
    for p in done:
        if p.value is not None:
            groups.setdefault(p.code, []).append(p.value)
    zero = {c: value if c == code else sum(values) / len(values) for c, values in groups.items()}
    off = [p.value - zero[p.code] for p in done if p.value is not None]
    sizes = sorted(abs(o) for o in off if o)
    unit = sizes[len(sizes) // 2] if len(sizes) >= 2 else 1.0
    known = [min(6.0, max(-6.0, o / unit)) for o in off]
    rest = iter(known)
    return np.array([CRASH if p.value is None else next(rest) for p in done]), unit


def _bell(distance: Array) -> Array:
    close: Array = np.exp(-(distance**2) / (2 * REACH**2))
    return close


def _expected(gain: float, spread: float) -> float:
    """Expected improvement."""
    u = gain / spread
    below = 0.5 * (1 + math.erf(u / math.sqrt(2)))
    return gain * below + spread * math.exp(-u * u / 2) / math.sqrt(2 * math.pi)

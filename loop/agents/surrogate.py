"""Predicts the metric from hyperparameters: a Gaussian process, fitted to the past experiments of a run.

It assumes what is true of this task:

- Most hyperparameters act independently: the metric is a sum of one smooth function of each, and a small
  function of all of them together.
- A few hyperparameters matter much, and most of them hardly at all.
- The incumbent is decent, unless changes of it succeed: a move far away makes things worse on average.
- Results are noisy.
- Each version of the code has a level of its own. What is learned about a hyperparameter also holds for the
  next version of the code; the level does not.

Values are counted in units of a typical effect (`_in_units`). docs/agents.md compares it with random search
and Optuna's TPE. Gaussian processes: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006),
chapter 2.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from msgspec import Struct

# The engine needs one thread for so small matrices; more would wait busily on cores that train. The
# library reads this when it is loaded, and then never again; trainings are to inherit nothing of it.
_threads = os.environ.get("OPENBLAS_NUM_THREADS")
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

if _threads is None:
    del os.environ["OPENBLAS_NUM_THREADS"]
else:
    os.environ["OPENBLAS_NUM_THREADS"] = _threads

Array = NDArray[np.float64]

REACH = 0.25
"""How far a result tells something about other values of a hyperparameter, as a share of its range: the
length scale of the kernel."""
CAUTION = 4.0
"""How much worse a far move is expected to be at first: typical effects for each unit of squared distance."""
BOLDER, MORE_CAREFUL = 0.5, 1.3
"""Each experiment that was better than all before it is a sign that the incumbent is not decent: the caution
shrinks by the first factor. Each that was not makes it larger by the second, up to `CAUTION`. So steps grow
where they succeed and shrink where they fail, like the trust region of Eriksson et al., Scalable Global
Optimization via Local Bayesian Optimization (2019)."""
TOGETHER = 0.1
"""Weight of the function of all hyperparameters together, as a share of the weight of a single one."""
LEVEL = 1.0
"""Prior variance of the level of a version of the code."""
FITS = 4
"""How many times the weights of the hyperparameters are computed anew, each time with the last ones."""
CRASH = 1.0
"""How much worse than the incumbent a crash counts, in typical effects."""
MOST = 250
"""How many past experiments are used, the latest ones."""


class Point(Struct, frozen=True):
    """One past experiment."""

    place: tuple[float, ...]
    """Where each hyperparameter lay in its range, mostly between 0 and 1."""
    code: str
    """Version of the code."""
    value: float | None = None
    """Its metric, lower is better; None for one that crashed or is still in training."""
    pending: bool = False
    """Whether it is still in training."""


class Surrogate:
    """A Gaussian process fitted to `points`. The incumbent lies at `place`, is a version `code` of the
    code, and has the metric `value`."""

    def __init__(self, points: Sequence[Point], place: Sequence[float], code: str, value: float) -> None:
        done = [p for p in points if not p.pending][-MOST:]
        self._now, self._code = np.array(place), code
        self._x = np.array([p.place for p in done]).reshape(len(done), len(place))
        self._codes = [p.code for p in done]
        self._y, self.unit = _in_units(done, code, value)
        self._weights, self._noise = np.full(len(place), 1.0), 0.1
        self._caution = _caution(done)
        if len(done) >= 4:
            self._fit()
        self._solve()
        self._assume_expected([p for p in points if p.pending])

    def _fit(self) -> None:
        """Choose the noise and one common weight by their likelihood, then a weight for each hyperparameter.

        A weight is the prior variance of what a hyperparameter does. It grows with the square of the largest
        effect found so far. A hyperparameter that has never been varied keeps the common weight.
        """
        grid = [(w, noise) for w in (0.1, 0.3, 1.0, 3.0) for noise in (0.03, 0.1, 0.3, 1.0)]
        count = len(self._now)
        common, self._noise = max(grid, key=lambda g: self._likelihood(np.full(count, g[0]), g[1]))
        self._weights = np.full(count, common)
        moved = np.ptp(self._x, axis=0) > 0
        for _ in range(FITS):
            self._solve()
            parts = self._parts()
            effect = np.max((parts - parts[0]) ** 2, axis=0)
            self._weights = np.where(moved, (2 * common + 4 * effect) / 3, common)

    def _parts(self) -> Array:
        """What each hyperparameter adds to each result, beside the prior mean: (results, hyperparameters)."""
        distance = self._x[:, None, :] - self._x[None, :, :]
        found: Array = np.einsum("ijk,j->ik", self._weights * _bell(distance), self._solution)
        return found

    def effects(self) -> list[float]:
        """By how much each hyperparameter has moved the metric between the values that were tried."""
        if not len(self._x):
            return [0.0] * len(self._now)
        prior = self._caution * (self._x - self._now) ** 2 * np.sqrt(self._weights)
        return [float(effect) * self.unit for effect in np.ptp(self._parts() + prior, axis=0)]

    def _likelihood(self, weights: Array, noise: float) -> float:
        """Logarithm of the likelihood of the results, without its constant."""
        self._weights, self._noise = weights, noise
        self._solve()
        rest = self._y - self._mean(self._x)
        return float(-0.5 * rest @ self._solution - np.log(np.diag(self._root)).sum())

    def _solve(self) -> None:
        """Factorize the covariance of the results (`_root`); solve it for their residuals (`_solution`)."""
        cover = self._covariance(self._x, self._codes, self._x, self._codes)
        self._root = np.linalg.cholesky(cover + (self._noise + 1e-8) * np.eye(len(self._x)))
        rest = self._y - self._mean(self._x)
        self._solution = np.linalg.solve(self._root.T, np.linalg.solve(self._root, rest))

    def _assume_expected(self, pending: Sequence[Point]) -> None:
        """Take each experiment that is in training as if its result were the expected one, so that the
        next idea is another one."""
        for point in pending:
            x = np.array([point.place])
            guess, _ = self._predict(x, [point.code])
            self._x, self._y = np.vstack([self._x, x]), np.append(self._y, guess)
            self._codes.append(point.code)
            self._solve()

    def _mean(self, x: Array) -> Array:
        """Prior mean at `x` (places, hyperparameters): it grows with the distance to the incumbent."""
        distance: Array = (x - self._now) ** 2
        lost: Array = self._caution * (distance * np.sqrt(self._weights)).sum(axis=1)
        return lost

    def _covariance(self, a: Array, codes_a: list[str], b: Array, codes_b: list[str]) -> Array:
        """Prior covariance of the places `a` with the places `b`: (places of a, places of b)."""
        distance = a[:, None, :] - b[None, :, :]
        alone = (self._weights * _bell(distance)).sum(axis=2)
        joint = np.exp(-(distance**2).sum(axis=2) / (8 * REACH**2)) * math.sqrt(a.shape[1])
        same = np.array([[c == d for d in codes_b] for c in codes_a], dtype=float).reshape(len(a), len(b))
        both: Array = alone + TOGETHER * self._weights.mean() * joint + LEVEL * same
        return both

    def _predict(self, x: Array, codes: list[str]) -> tuple[Array, Array]:
        """Posterior mean at the places `x`, and their covariances with the results divided by `_root`."""
        across = self._covariance(x, codes, self._x, self._codes)
        mean = self._mean(x) + across @ self._solution
        known = np.linalg.solve(self._root, across.T)
        return mean, known

    def gains(self, places: Sequence[Sequence[float]]) -> list[Gain]:
        """How much better than the incumbent each place is expected to be, noise of trainings aside."""
        x = np.vstack([np.array(places), self._now])
        codes = [self._code] * len(x)
        mean, known = self._predict(x, codes)
        own = self._covariance(x[:1], codes[:1], x[:1], codes[:1])[
            0, 0
        ]  # the prior variance is the same everywhere
        with_now = self._covariance(x, codes, x[-1:], codes[-1:])[:, 0] - known.T @ known[:, -1]
        variance = own - (known**2).sum(axis=0)
        spread = np.sqrt(np.maximum(variance + variance[-1] - 2 * with_now, 1e-12))
        gain = mean[-1] - mean
        return [
            Gain(float(g) * self.unit, float(s) * self.unit, _expected_improvement(float(g), float(s)))
            for g, s in zip(gain[:-1], spread[:-1], strict=True)
        ]


class Gain(Struct, frozen=True):
    """How much better than the incumbent a place is expected to be."""

    mean: float
    """In the unit of the metric; negative when the place is expected to be worse."""
    spread: float
    """Standard deviation of that."""
    improvement: float
    """Expected improvement, in typical effects: places are ranked by it."""


def _caution(done: Sequence[Point]) -> float:
    """How much worse a far move is expected to be after these successes and failures. An experiment
    is compared with those before it that have the same version of the code."""
    caution = CAUTION
    best: dict[str, float] = {}
    for p in done:
        if p.code in best:
            better = p.value is not None and p.value < best[p.code]
            caution = min(CAUTION, caution * (BOLDER if better else MORE_CAREFUL))
        if p.value is not None:
            best[p.code] = min(best.get(p.code, math.inf), p.value)
    return caution


def _in_units(done: list[Point], code: str, value: float) -> tuple[Array, float]:
    """The results in units of a typical effect, and this unit in the unit of the metric.

    Results of the incumbent's version of the code are counted from the incumbent's `value`, those of another
    version from their own mean. The unit is the median of the differences; with fewer than two it is 1.
    """
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
    """How much a result tells at this distance: 1 at distance 0, falling like a Gaussian."""
    close: Array = np.exp(-(distance**2) / (2 * REACH**2))
    return close


def _expected_improvement(gain: float, spread: float) -> float:
    """Expected improvement of a normally distributed gain (Jones, Schonlau and Welch, 1998, equation 15)."""
    u = gain / spread
    below = 0.5 * (1 + math.erf(u / math.sqrt(2)))
    return gain * below + spread * math.exp(-u * u / 2) / math.sqrt(2 * math.pi)

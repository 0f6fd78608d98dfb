"""The simulated world of verdicts.py: ideas that gain or harm, and a machine that measures with noise.

Ideas are drawn from a mixture fitted to the public log of karpathy/autoresearch, branch exp/H100/mar8, and
the longer runs after it: 22 improvements in 125 experiments, 17 of them below 0.001, 0.0282 in all, about
0.04 after 700 (`verdicts.py --fit` prints what rule `improved` makes of the mixture at the noise of that log,
which kept one seed). What an idea gains shrinks as the incumbent gets better, as those logs show.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

Mixture = tuple[tuple[float, str, Callable[[random.Random], float]], ...]

MIXTURES: dict[str, Mixture] = {
    "log": (
        (0.25, "nothing much", lambda r: r.gauss(0, 0.0003)),
        (0.22, "a little better", lambda r: r.expovariate(1 / 0.0008)),
        (0.055, "much better", lambda r: 0.0065 * math.exp(r.gauss(0, 0.7))),
        (0.475, "worse", lambda r: -r.expovariate(1 / 0.003)),
    ),
    "rare": (
        (0.30, "nothing much", lambda r: r.gauss(0, 0.0003)),
        (0.05, "a little better", lambda r: r.expovariate(1 / 0.0008)),
        (0.03, "much better", lambda r: 0.009 * math.exp(r.gauss(0, 0.7))),
        (0.62, "worse", lambda r: -r.expovariate(1 / 0.006)),
    ),
    "small": (
        (0.40, "nothing much", lambda r: r.gauss(0, 0.0003)),
        (0.20, "a little better", lambda r: r.expovariate(1 / 0.0015)),
        (0.03, "better", lambda r: 0.004 * math.exp(r.gauss(0, 0.7))),
        (0.37, "worse", lambda r: -r.expovariate(1 / 0.0015)),
    ),
}
"""Shares of ideas and what each kind does to val_bpb (positive: better) at the baseline. The rules start from
figures like those of `log`; in `rare` few ideas help and most hurt, in `small` all effects are small."""
FADING = 0.015
"""Each time the incumbent has improved by so much, gains shrink by a factor of e."""
DRIFT = 0.005
"""By how much a drifting machine moves the metric over a run: half a percent."""


class Idea(NamedTuple):
    """A change of the incumbent, by what it truly gains at the baseline."""

    gain: float

    def gain_at(self, quality: float) -> float:
        """What it gains for an incumbent of this quality; harm does not fade."""
        return self.gain * math.exp(-quality / FADING) if self.gain > 0 else self.gain


class Ideas:
    """Draws ideas from a mixture."""

    def __init__(self, generator: random.Random, mixture: str) -> None:
        self._generator, self._mixture = generator, MIXTURES[mixture]

    def draw(self) -> Idea:
        at = self._generator.random()
        for share, _, draw in self._mixture:  # noqa: B007 - the last one takes what rounding leaves
            at -= share
            if at < 0:
                break
        return Idea(draw(self._generator))


class Machine:
    """Trains: draws values, counts trainings, and drifts where it was told to."""

    def __init__(
        self,
        generator: random.Random,
        deviation: float,
        drift: str = "none",
        span: int = 1,
        shared: float = 0.0,
    ) -> None:
        """`drift` happens over `span` trainings. `shared`: how much of the variance belongs to the seed,
        whatever code trains with it."""
        self._generator, self.deviation, self._shared = generator, deviation, shared
        self._seeds: dict[int, float] = {}
        self.trainings = 0
        amount, count = DRIFT * generator.choice((-1, 1)), generator.randint(1, 3)
        self._slope = amount / span if drift == "linear" else 0.0
        steps = count if drift == "steps" else 0
        self._steps = [(generator.randint(1, span), amount / count) for _ in range(steps)]

    def value(self, truth: float, seed: int = 1) -> float:
        """The gain that one more training measures for code of this true quality."""
        self.trainings += 1
        drifted = self._slope * self.trainings + sum(by for at, by in self._steps if self.trainings >= at)
        luck = self._generator.gauss(0, self.deviation * math.sqrt(1 - self._shared))
        return truth + drifted + luck + self._of_seed(seed)

    def _of_seed(self, seed: int) -> float:
        if self._shared and seed not in self._seeds:
            self._seeds[seed] = self._generator.gauss(0, self.deviation * math.sqrt(self._shared))
        return self._seeds.get(seed, 0.0)

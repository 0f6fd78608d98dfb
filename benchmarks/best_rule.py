"""The best that a rule can do in the simulated world of research.py, by dynamic programming.

A rule must train an idea to learn what it gains, and each training says it with noise. This one knows all
that can be known besides: the noise, what ideas do, how their gains fade, and where the incumbent truly is.
So it is a bound for every rule that judges ideas one at a time and stays with its verdicts.

After each training of an idea it keeps, discards or trains again, whichever is worth most. A training costs
what the best use of trainings brings on average, which is found by bisection (an optimal stopping problem;
DeGroot, Optimal Statistical Decisions, 1970, chapter 12). A price on false keeps makes the rule careful.
Effects are in standard deviations of one training.
"""

from __future__ import annotations

import random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.research import Ideas

Array = NDArray[np.float64]
Action = Literal["keep", "rerun", "discard"]

STEP, LEVELS = 0.0025, 25
"""The rule is computed for the incumbent's qualities 0, STEP, 2 STEP, ...; between them gains hardly fade."""
MOST = 8
"""Trainings of one idea at most. The best rule hardly ever wants as many."""
DRAWS = 100_000
"""Ideas from which it learns what ideas do."""
EFFECTS = np.concatenate([np.linspace(-30, -3, 80), np.linspace(-2.97, 3, 200), np.geomspace(3.05, 60, 60)])
MEANS = np.linspace(-6, 20, 261)
"""An idea's true effect, and the mean of its trainings, take these values only."""
VALUES = np.linspace(-8, 24, 161)
"""What the next training may show."""


class Best:
    """The rule for one mixture of ideas, one noise, and a price of a false keep in standard deviations."""

    def __init__(self, mixture: str, noise: float, price: float) -> None:
        ideas = Ideas(random.Random(1), mixture)
        drawn = [ideas.draw() for _ in range(DRAWS)]
        self._tables: list[list[list[Action]]] = []
        for level in range(LEVELS):
            effects = np.array([idea.gain_at(STEP * level) for idea in drawn]) / noise
            self._tables.append(_solve(_shares(effects), price))

    def action(self, quality: float, count: int, mean: float) -> Action:
        """What to do with an idea whose `count` trainings were better than the incumbent by `mean`."""
        table = self._tables[min(LEVELS - 1, max(0, round(quality / STEP)))]
        at = int(np.abs(MEANS - mean).argmin())
        return table[count - 1][at]


def _shares(effects: Array) -> Array:
    """How many of the ideas have each of `EFFECTS`."""
    edges = np.concatenate([[-np.inf], (EFFECTS[1:] + EFFECTS[:-1]) / 2, [np.inf]])
    return np.histogram(effects, edges)[0] / len(effects)


def _solve(shares: Array, price: float) -> list[list[Action]]:
    """For each number of trainings and each of `MEANS`: what to do."""
    kept, seen = [], []  # the worth of a keep; the chances of what the next training shows
    shown = np.exp(-0.5 * (EFFECTS[:, None] - VALUES) ** 2)
    for count in range(1, MOST + 1):
        logs = -0.5 * count * (MEANS[:, None] - EFFECTS) ** 2
        belief = shares * np.exp(logs - logs.max(axis=1, keepdims=True)) + 1e-300
        belief /= belief.sum(axis=1, keepdims=True)
        kept.append(belief @ EFFECTS - price * belief[:, EFFECTS <= 0].sum(axis=1))
        next_value = belief @ shown
        seen.append(next_value / next_value.sum(axis=1, keepdims=True))
    first = np.exp(-0.5 * (MEANS[:, None] - EFFECTS) ** 2) @ shares
    first /= first.sum()
    low, high = 0.0, 5.0
    for _ in range(24):
        cost = (low + high) / 2
        worth, actions = _backwards(kept, seen, cost)
        low, high = (cost, high) if first @ worth > cost else (low, cost)
    return actions


def _backwards(kept: list[Array], seen: list[Array], cost: float) -> tuple[Array, list[list[Action]]]:
    """What an idea is worth after its first training, where each further one costs `cost`; and what to do."""
    worth = np.maximum(0, kept[-1])
    actions = [_names(kept[-1], np.zeros(len(MEANS), dtype=bool))]
    for count in range(MOST - 1, 0, -1):
        then = MEANS[:, None] + (VALUES - MEANS[:, None]) / (count + 1)
        again = (seen[count - 1] * np.interp(then, MEANS, worth)).sum(axis=1) - cost
        now = np.maximum(0, kept[count - 1])
        actions.append(_names(kept[count - 1], again > now))
        worth = np.maximum(now, again)
    return worth, actions[::-1]


def _names(kept: Array, again: NDArray[np.bool_]) -> list[Action]:
    return ["rerun" if a else "keep" if k > 0 else "discard" for k, a in zip(kept, again, strict=True)]

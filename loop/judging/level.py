"""Where the incumbent stands now: its metric, how sure that is, and whether the machine has drifted. Pure.

A filter follows the incumbent through its trainings. Between two of them the machine may have become a little
faster or slower, so an older training says less about now; a training far from all before means that the
machine has changed, and only what trained since then counts. Candidates tell something too: most of them
change nothing or little, so together they show where the incumbent is.

Values here are gains: larger is better, in standard deviations of one training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from loop.judging.gains import Kind, likelihood

DRIFT = 0.1
"""Deviation by which the machine may drift from one training to the next, in those of one training."""
JUMP = 3.0
"""A training of the incumbent that is further off, in standard errors, means that the machine has changed."""
TRUST = 0.3
"""Power to which the candidates' likelihood is raised: what ideas do is known only roughly."""
RECENT = 25
"""The newest candidates that are looked at."""
POINTS, REACH = 21, 3.0
"""The level is looked for at so many points, up to so many standard errors away."""


class Training(Struct, frozen=True):
    """A value and when it was measured, counted in trainings of the run. Of a candidate: mean of `count`."""

    at: int
    value: float
    count: int = 1


class Level(Struct, frozen=True):
    """The incumbent's level at a time, its variance, and what the machine's drift has done to it."""

    at: int
    value: float
    variance: float
    drift: float = 0.0
    """By how much it moved when the machine changed; 0 where it did not."""
    since: int = -1
    """When that was seen; trainings before it do not count."""


def follow(start: Level, trainings: Sequence[Training], now: int) -> Level:
    """The level now, after these trainings of the incumbent in order of time."""
    level = start
    for training in trainings:
        level = _later(level, training.at)
        off = training.value - level.value
        if abs(off) > JUMP * math.sqrt(level.variance + 1):
            level = Level(training.at, training.value, 1.0, level.drift + off, training.at)
        else:
            share = level.variance / (level.variance + 1)
            value, variance = level.value + share * off, level.variance * (1 - share)
            level = Level(training.at, value, variance, level.drift, level.since)
    return _later(level, now)


def _later(level: Level, at: int) -> Level:
    passed = max(0, at - level.at)
    return Level(max(at, level.at), level.value, level.variance + DRIFT**2 * passed, level.drift, level.since)


def refine(level: Level, candidates: Sequence[Training], kinds: Sequence[Kind]) -> Level:
    """The level, with what the newest candidates show of it; they were compared with this incumbent."""
    recent = [c for c in candidates if c.at > level.since][-RECENT:]
    if not recent:
        return level
    step = REACH * math.sqrt(level.variance) / (POINTS // 2)
    offsets = [(i - POINTS // 2) * step for i in range(POINTS)]
    logs = [
        -0.5 * offset * offset / level.variance
        + TRUST
        * sum(likelihood(c.value - level.value - offset, 1 / math.sqrt(c.count), kinds) for c in recent)
        for offset in offsets
    ]
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, offsets, strict=True)) / total
    variance = sum(w * (x - mean) ** 2 for w, x in zip(weights, offsets, strict=True)) / total
    return Level(level.at, level.value + mean, max(variance, 0.01), level.drift, level.since)

"""A candidate beside its incumbent: how much better it is, how sure that is, and what to believe. Pure.

Values are gains here: larger is better, in standard deviations of one training (`History.noise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from msgspec import Struct

from loop.judging.gains import PRIOR, Belief, Kind, believe, believe_together
from loop.judging.level import Level, Training, follow, refine
from loop.judging.noise import Noise, own_scatter


class History(Struct, frozen=True):
    """What a run knows before a candidate is compared."""

    noise: Noise
    start: Level
    """Where the incumbent stood when it became the incumbent."""
    count: int
    """Trainings of the incumbent up to then."""
    later: tuple[Training, ...] = ()
    """Its trainings since then."""
    tried: int = 0
    """When its last training began, also one that failed."""
    failed: int = 0
    """How many of its trainings failed."""
    candidates: tuple[Training, ...] = ()
    """The candidates that were compared with it."""
    kinds: tuple[Kind, ...] = PRIOR
    """What ideas do."""

    @property
    def theirs(self) -> int:
        """How many trainings of the incumbent there are."""
        return self.count + len(self.later)


class Comparison(Struct, frozen=True):
    """What the trainings of a candidate say about it."""

    gain: float
    """By how much it is better than the incumbent at the same time."""
    error: float
    """Standard error of the gain."""
    belief: Belief
    ours: int
    """Trainings of the candidate; `theirs` of the incumbent."""
    theirs: int
    turns: int
    """Trainings of the incumbent, those that failed included."""
    level: Level
    """Where the incumbent is."""
    apart: int
    """Trainings between the incumbent's last one and the candidate's first; 0 when they are neighbours."""


def first_level(training: Training) -> Level:
    """The level of the unchanged code after its first training."""
    return Level(training.at, training.value, 1.0)


def compare(
    history: History, candidate: Sequence[Training], price: float = 0.0, parts: Sequence[Belief] = ()
) -> Comparison:
    """Compare a candidate with the incumbent.

    `price` is what its gain must pay for besides, `parts` are the beliefs of the ideas that it combines.
    """
    at, ours = max(t.at for t in candidate), len(candidate)
    level = refine(follow(history.start, history.later, at), history.candidates, history.kinds)
    gain = fmean(t.value for t in candidate) - level.value
    scatter = own_scatter([t.value for t in candidate], Noise(1.0, history.noise.degrees))
    error = (level.variance + scatter**2 / ours) ** 0.5
    cautious = error * history.noise.caution
    belief = (
        believe_together(gain - price, cautious, parts)
        if parts
        else believe(gain - price, cautious, history.kinds)
    )
    apart = max(0, candidate[0].at - history.tried - 1)
    turns = history.theirs + history.failed
    return Comparison(gain, error, belief, ours, history.theirs, turns, level, apart)


def successor(own: Level, count: int, gain: float, error: float, belief: Belief) -> Level:
    """Where a candidate stands that was kept after `count` trainings, whose mean `own` is.

    It was kept because its number was good, and such numbers are too good on average: what was measured is
    drawn towards what is believed.
    """
    noise = 1.0 / count
    share = min(1.0, noise / error**2)
    variance = noise * (1 - share) + share * share * belief.variance
    return Level(own.at, own.value - share * (gain - belief.gain), max(variance, 0.01))

"""What the state of a run tells about ideas, noise and incumbent, as `compare` takes it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from statistics import fmean

from msgspec import Struct

from loop.judging.comparison import History, first_level, successor
from loop.judging.gains import Belief, Kind, believe, believe_together, learn
from loop.judging.level import Level, Training
from loop.judging.noise import Noise, near_in_time, pooled, usual
from loop.state import Experiment, RunState

LEARNED = 80
"""Ideas from which the kinds of ideas are learned: the newest, since gains shrink as research goes on."""


class Scale(Struct, frozen=True):
    """Turns values of the metric into gains: larger is better, in standard deviations of one training."""

    deviation: float
    sign: float

    def of(self, value: float) -> float:
        return self.sign * value / self.deviation


def noise_of(state: RunState) -> Noise:
    """The noise that the experiments of this run show which were trained more than once."""
    groups = (
        group
        for e in state.experiments
        if len(e.trainings) > 1
        for group in near_in_time(e.values, _together(e))
    )
    return pooled(groups, usual(state.metric, state.baseline or 0.0))


def _together(e: Experiment) -> int:
    """How many trainings an experiment had for its verdict; the later ones were spread over the run."""
    if not e.judged:
        return len(e.trainings)
    return e.judged_trainings or 1


def scale_of(state: RunState, noise: Noise) -> Scale:
    """The scale of this run's gains; the noise must be known and not 0."""
    return Scale(noise.deviation, -1.0 if state.direction == "min" else 1.0)


def kinds_of(state: RunState, scale: Scale) -> tuple[Kind, ...]:
    """What ideas do, learned from the newest ones of this run."""
    measured: list[tuple[float, float]] = []
    for e in reversed(state.experiments):
        if e.judged and not e.combines and e.delta is not None and e.stderr:
            measured.append((scale.of(e.delta), e.stderr / scale.deviation))
            if len(measured) == LEARNED:
                break
    return learn(tuple(measured))


def belief_of(e: Experiment, scale: Scale, kinds: tuple[Kind, ...]) -> Belief | None:
    """What is believed of a judged idea; None where it was not compared."""
    if e.delta is None or not e.stderr:
        return None
    return believe(scale.of(e.delta), e.stderr / scale.deviation, kinds)


def parts_of(state: RunState, e: Experiment, scale: Scale, kinds: tuple[Kind, ...]) -> list[Belief]:
    """What is believed of the ideas that an experiment combines; empty for a single idea."""
    beliefs = [belief_of(state.experiment(n), scale, kinds) for n in e.combines]
    return [belief for belief in beliefs if belief]


class Clock:
    """Counts when trainings began, in rounds: the incumbent's first training is in round 0.

    A round ends where a seat begins its second training in it, so with one seat each training is a round of
    its own. Trainings of the same round ran at about the same time: no drift of the machine lies between.
    """

    def __init__(self, state: RunState, incumbent: Experiment) -> None:
        first = min((t.started_at for t in incumbent.trainings), default=0.0)
        starts = sorted(
            (t.started_at, t.started.seat)
            for e in state.experiments
            for t in e.trainings
            if t.started_at >= first
        )
        self._starts = [start for start, _ in starts]
        self._rounds: list[int] = []
        now, seats = 0, set[int]()
        for _, seat in starts:
            if seat in seats:
                now, seats = now + 1, set()
            seats.add(seat)
            self._rounds.append(now)
        self._rounds.append(now + 1)

    def at(self, started_at: float) -> int:
        return self._rounds[bisect_left(self._starts, started_at)]


def reference(state: RunState, e: Experiment) -> Experiment:
    """What an experiment is compared with: the experiment whose commit it changes.

    That is the incumbent, unless another idea was kept while this one trained. The run has an incumbent.
    """
    assert state.incumbent is not None
    incumbent = state.experiment(state.incumbent)
    if e.parent == incumbent.commit:
        return incumbent
    measured = (x for x in reversed(state.experiments) if x.commit == e.parent and x.value is not None)
    return next(measured, incumbent)


def is_stale(state: RunState, e: Experiment) -> bool:
    """Another idea was kept while this experiment trained, so it cannot become the incumbent as it is."""
    return state.incumbent is not None and e.parent != state.incumbent_commit and e.commit != state.base


def trainings_of(e: Experiment, scale: Scale, clock: Clock) -> list[Training]:
    """The finished trainings of an experiment's commit, in order of time."""
    good = [
        t for t in e.trainings if t.commit == e.commit and t.outcome == "finished" and t.value is not None
    ]
    found = [Training(clock.at(t.started_at), scale.of(t.value)) for t in good if t.value is not None]
    return sorted(found, key=lambda t: t.at)


def history_of(state: RunState, incumbent: Experiment, noise: Noise, clock: Clock) -> History:
    """What is known before a candidate is compared with `incumbent`, the present one or an earlier one.

    The noise must be known, and not 0.
    """
    scale = scale_of(state, noise)
    kinds = kinds_of(state, scale)
    trainings = trainings_of(incumbent, scale, clock)
    count = max(1, min(incumbent.judged_trainings, len(trainings)))
    start = _start(state, incumbent, trainings[:count], scale, kinds)
    ended = [t for t in incumbent.trainings if t.finished and t.commit == incumbent.commit]
    tried = max((clock.at(t.started_at) for t in ended), default=0)
    failed = len(ended) - len(trainings)
    candidates = _candidates(state, incumbent, scale, clock)
    return History(noise, start, count, tuple(trainings[count:]), tried, failed, candidates, kinds)


def _start(
    state: RunState, e: Experiment, trainings: list[Training], scale: Scale, kinds: tuple[Kind, ...]
) -> Level:
    """Where the incumbent stood when it became the incumbent."""
    if not trainings:  # a human kept what had not trained to its end
        return Level(0, scale.of(e.value or state.baseline or 0.0), 1.0)
    if len(trainings) == 1 and e.delta is None:
        return first_level(trainings[0])
    own = Level(trainings[-1].at, fmean(t.value for t in trainings), 1 / len(trainings))
    if e.delta is None or not e.stderr:
        return own
    gain, error = scale.of(e.delta), e.stderr / scale.deviation
    parts = parts_of(state, e, scale, kinds)
    belief = believe_together(gain, error, parts) if parts else believe(gain, error, kinds)
    return successor(own, len(trainings), gain, error, belief)


def _candidates(state: RunState, incumbent: Experiment, scale: Scale, clock: Clock) -> tuple[Training, ...]:
    """The newest candidates that were compared with this incumbent, the oldest first."""
    found: list[Training] = []
    for e in reversed(state.experiments[-LEARNED:]):
        if e.judged and e.parent == incumbent.commit and e.n != incumbent.n and not e.combines:
            if e.delta is None or e.value is None or not e.trainings:
                continue
            at = clock.at(e.trainings[0].started_at)
            found.append(Training(at, scale.of(e.value), max(1, len(e.values))))
    return tuple(reversed(found))

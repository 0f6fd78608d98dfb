"""What the state of a run tells the comparison."""

from __future__ import annotations

from typing import Any

import pytest

from loop.experiment import ExperimentPhase
from loop.judging.gains import PRIOR
from loop.judging.history import (
    Clock,
    belief_of,
    history_of,
    is_stale,
    kinds_of,
    noise_of,
    parts_of,
    reference,
    scale_of,
    trainings_of,
)
from loop.state import Experiment, RunState
from tests.loop.trainings import training


def experiment(
    n: int, at: float, *values: float | None, phase: ExperimentPhase = "discard", **fields: Any
) -> Experiment:
    """Experiment `n`; its trainings began at `at` seconds and each second after."""
    trainings = [training(i, f"c{n}", v, n=n, started_at=at + i - 1) for i, v in enumerate(values, 1)]
    good = [v for v in values if v is not None]
    return Experiment(
        n,
        "c1",
        phase,
        f"c{n}",
        trainings=tuple(trainings),
        value=sum(good) / len(good) if good else None,
        **fields,
    )


def judged(delta: float | None, stderr: float | None = 0.0012, trainings: int = 1) -> dict[str, Any]:
    """The figures of a verdict."""
    return {"delta": delta, "stderr": stderr, "judged_trainings": trainings}


def state(*experiments: Experiment, incumbent: int = 1, **fields: Any) -> RunState:
    return RunState(base="c1", experiments=list(experiments), incumbent=incumbent, baseline=1.0, **fields)


def test_gains_are_in_deviations_and_larger_is_better() -> None:
    s = state(experiment(1, 0, 1.0, 1.001, phase="keep"))
    scale = scale_of(s, noise_of(s))
    assert scale.of(1.0) - scale.of(1.001) == pytest.approx(0.001 / noise_of(s).deviation)
    s.direction = "max"
    assert scale_of(s, noise_of(s)).of(1.0) == -scale.of(1.0)


def test_the_incumbents_trainings_are_in_order_of_time_and_failed_ones_are_counted() -> None:
    s = state(
        experiment(1, 0, 1.0, 1.001, phase="keep"), experiment(2, 2, 1.003, **judged(0.0025)),
        experiment(3, 3, 0.999, phase="judging"),
    )  # fmt: skip
    s.experiment(1).trainings += (training(3, "c1", None, started_at=4),)
    noise, clock = noise_of(s), Clock(s, s.experiment(1))
    found = history_of(s, s.experiment(1), noise, clock)
    assert (found.count, found.theirs, found.failed, found.tried) == (1, 2, 1, 4)
    assert [c.at for c in found.candidates] == [2]
    scale = scale_of(s, noise)
    assert [t.at for t in trainings_of(s.experiment(3), scale, clock)] == [3]


def test_a_kept_candidate_starts_below_its_lucky_number() -> None:
    kept = experiment(2, 2, 0.9965, phase="keep", **judged(-0.004))
    s = state(experiment(1, 0, 1.0, 1.001, phase="keep"), kept, incumbent=2)
    noise = noise_of(s)
    found = history_of(s, kept, noise, Clock(s, kept))
    measured = scale_of(s, noise).of(0.9965)
    assert measured - 1 < found.start.value < measured
    assert found.start.variance < 1


def test_a_verdict_by_hand_on_what_was_never_compared_is_taken_as_it_is() -> None:
    for by_hand in (
        experiment(2, 2, 0.9, **judged(None)),
        experiment(2, 2, None, **judged(None)),
    ):
        s = state(experiment(1, 0, 1.0, 1.001, phase="keep"), by_hand, incumbent=2)
        noise = noise_of(s)
        start = history_of(s, by_hand, noise, Clock(s, by_hand)).start
        assert start.value == pytest.approx(scale_of(s, noise).of(by_hand.value or 1.0))
        assert start.variance == 1


def test_kinds_are_learned_from_single_ideas_that_were_compared() -> None:
    harm = [experiment(n, n, 1.02, **judged(0.02)) for n in range(3, 40)]
    unclear = experiment(2, 2, 0.9, **judged(None))
    s = state(experiment(1, 0, 1.0, 1.001, phase="keep"), unclear, *harm)
    scale = scale_of(s, noise_of(s))
    assert kinds_of(s, scale)[3].share > PRIOR[3].share
    assert kinds_of(state(s.experiment(1), unclear), scale) == PRIOR
    assert belief_of(unclear, scale, PRIOR) is None
    together = experiment(40, 40, 1.0, combines=[2, 3, 4])
    assert len(parts_of(s, together, scale, PRIOR)) == 2
    assert parts_of(s, harm[0], scale, PRIOR) == []


def test_a_drift_between_an_incumbents_trainings_is_not_taken_for_noise() -> None:
    steady = state(experiment(1, 0, 1.0, 1.001, phase="keep", **judged(None)))
    drifted = state(experiment(1, 0, 1.0, 1.001, 0.99, 0.991, phase="keep", **judged(None)))
    assert noise_of(drifted).deviation == pytest.approx(noise_of(steady).deviation, rel=0.3)


def test_trainings_that_ran_at_the_same_time_are_of_one_round() -> None:
    """Three seats: no drift of the machine lies between trainings that began together."""
    baseline = experiment(1, 0, phase="keep")
    baseline.trainings = tuple(
        training(number, "c1", 1.0, started_at=start, seat=seat)
        for number, (start, seat) in enumerate([(0, 0), (1, 1), (2, 2), (300, 1), (301, 0), (599, 1)], 1)
    )
    clock = Clock(state(baseline), baseline)
    assert [clock.at(t.started_at) for t in baseline.trainings] == [0, 0, 0, 1, 1, 2]
    assert clock.at(700) == 3


def test_a_stale_experiment_is_compared_with_its_own_parent() -> None:
    """Experiment 3 changes the baseline; meanwhile 2 was kept, which is far better."""
    kept = experiment(2, 2, 0.9, phase="keep", **judged(-0.1))
    late = experiment(3, 3, 1.001, phase="judging")
    s = state(experiment(1, 0, 1.0, 1.001, phase="keep"), kept, late, incumbent=2)
    assert (is_stale(s, late), reference(s, late).n) == (True, 1)
    fresh = Experiment(4, "c2", "judging", "c4")
    assert (is_stale(s, fresh), reference(s, fresh).n) == (False, 2)
    lost = Experiment(5, "nowhere", "judging", "c5")
    assert reference(s, lost).n == 2

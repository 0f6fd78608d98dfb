"""The rules: what they keep, what they run again, and how sure they are."""

from __future__ import annotations

import random
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev
from loop.experiment import ExperimentPhase
from loop.judging import verdict
from loop.judging.noise import Noise
from loop.judging.verdict import Rerun, Rules, Verdict, confirmed, improved, judge
from loop.state import Experiment, RunState
from tests.loop.trainings import training

RULES = Rules()
KNOWN = Noise(0.001, 100)
counts = st.integers(1, 6)
gains = st.floats(-0.02, 0.02)
noises = st.builds(Noise, st.floats(1e-6, 0.01), st.integers(1, 300))


@pytest.mark.parametrize(
    ("gain", "ours", "theirs", "action", "words"),
    [
        (0.01, 1, 2, "keep", "8.2 standard errors"),
        (-0.01, 1, 2, "discard", "8.2 standard errors"),
        (0.002, 1, 2, "rerun", "within noise (1.6 standard errors)"),
        (0.0005, 1, 2, "discard", "within noise (0.4 standard errors)"),
        (0.0005, 3, 3, "discard", "within noise (0.6 standard errors over 3 and 3 trainings)"),
        (0.002, 3, 3, "keep", "2.4 standard errors over 3 and 3 trainings"),
    ],
)
def test_confirmed(gain: float, ours: int, theirs: int, action: str, words: str) -> None:
    weighed = confirmed(gain, ours, theirs, KNOWN, 0, RULES)
    assert (weighed.action, weighed.evidence) == (action, words)


@pytest.mark.parametrize(
    ("gain", "lines", "action"),
    [
        (0.0, -5, "keep"),  # less code for the same result
        (-0.0005, -5, "keep"),  # a loss within the noise
        (-0.003, -5, "discard"),
        (0.0018, 0, "keep"),
        (0.0018, 100, "discard"),  # a hundred lines must pay for themselves
        (0.0028, 100, "keep"),
    ],
)
def test_code_has_a_price(gain: float, lines: int, action: str) -> None:
    assert confirmed(gain, 3, 3, KNOWN, lines, RULES).action == action


def test_a_simplification_is_not_believed_after_one_run() -> None:
    assert confirmed(0.0, 1, 2, KNOWN, -5, RULES).action == "rerun"


@given(gains, counts, counts, st.integers(-200, 200))
def test_without_noise_better_is_kept_and_worse_is_not(gain: float, ours: int, theirs: int, n: int) -> None:
    action = confirmed(gain, ours, theirs, Noise(0.0, 3), n, RULES).action
    assert action == ("keep" if gain > 0 or (gain == 0 and n < 0) else "discard")


@given(gains, counts, counts, noises, st.integers(-200, 200))
def test_more_gain_never_gets_a_worse_verdict(
    gain: float, ours: int, theirs: int, noise: Noise, lines: int
) -> None:
    order = ["discard", "rerun", "keep"]
    low, high = (confirmed(g, ours, theirs, noise, lines, RULES).action for g in (gain, gain + 0.001))
    assert order.index(high) >= order.index(low)


@given(st.floats(-1, 1), counts, noises, st.integers(0, 200))
def test_reruns_end(gain: float, theirs: int, noise: Noise, lines: int) -> None:
    assert confirmed(gain, RULES.max_runs, theirs, noise, lines, RULES).action != "rerun"


@given(gains, counts, counts, noises)
def test_improved_looks_at_nothing_but_the_sign(gain: float, ours: int, theirs: int, noise: Noise) -> None:
    assert (improved(gain, ours, theirs, noise).action == "keep") == (gain > 0)


@given(gains, counts, counts, noises, st.integers(0, 200))
def test_what_confirmed_keeps_improved_keeps_too(
    gain: float, ours: int, theirs: int, noise: Noise, lines: int
) -> None:
    if confirmed(gain, ours, theirs, noise, lines, RULES).action == "keep":
        assert improved(gain, ours, theirs, noise).action == "keep"


def test_a_candidate_that_is_just_as_good_is_kept_with_a_chance_below_5_percent() -> None:
    generator, kept = random.Random(5), 0
    for _ in range(20_000):
        ours, theirs = ([generator.gauss(0, 1)], [generator.gauss(0, 1) for _ in range(2)])
        while True:
            gain = fmean(ours) - fmean(theirs)
            action = confirmed(gain, len(ours), len(theirs), Noise(1, 50), 0, RULES).action
            if action != "rerun":
                break
            (theirs if len(theirs) < len(ours) else ours).append(generator.gauss(0, 1))
        kept += action == "keep"
    assert 0.02 < kept / 20_000 < 0.05


# --- on the state of a run ---


def experiment(n: int, *values: float | None, phase: ExperimentPhase = "keep", **fields: Any) -> Experiment:
    trainings = [training(i, f"c{n}", v, n=n) for i, v in enumerate(values, 1)]
    good = [v for v in values if v is not None]
    mean = fmean(good) if good else None
    return Experiment(n, "c1", phase, f"c{n}", trainings=trainings, value=mean, **fields)


def state(*experiments: Experiment, **fields: object) -> RunState:
    return RunState(base="c1", experiments=list(experiments), incumbent=1, **fields)  # type: ignore[arg-type]


def test_candidate_and_incumbent_run_again_in_turn() -> None:
    baseline, candidate = experiment(1, 1.0, 1.001), experiment(2, 0.9985, phase="judging")
    s = state(baseline, candidate)
    turns = []
    for value in (0.9998, 0.9995, 1.0):
        found = judge(s, candidate, Rules(max_runs=4))
        assert isinstance(found, Rerun)
        turns.append(found.n)
        e = s.experiment(found.n)
        e.trainings.append(training(len(e.trainings) + 1, e.commit, value, n=e.n))
    assert turns == [2, 2, 1]
    final = judge(s, candidate, RULES)
    assert isinstance(final, Verdict)
    assert final.trainings == 3
    assert final.value == pytest.approx(fmean([0.9985, 0.9998, 0.9995]))


def test_higher_is_better_when_the_direction_says_so() -> None:
    s = state(experiment(1, 0.5, 0.5), experiment(2, 0.6, phase="judging"), direction="max")
    found = judge(s, s.experiment(2), RULES)
    assert isinstance(found, Verdict)
    assert found.status == "keep"
    assert found.delta == pytest.approx(0.1)


def test_a_printed_number_is_not_believed_once_the_baseline_was_measured() -> None:
    s = state(experiment(1, 1.0, 1.0), experiment(2, 0.2, phase="judging"))
    s.experiment(1).trainings[0] = training(1, "c1", 1.0, verified=True)
    found = judge(s, s.experiment(2), RULES)
    assert isinstance(found, Verdict)
    assert (found.status, found.value) == ("crash", None)
    assert found.reason.startswith("unverified")


def test_a_flagged_run_is_not_kept_however_good() -> None:
    s = state(experiment(1, 1.0, 1.0), experiment(2, 0.2, phase="judging"))
    s.experiment(2).trainings = [training(1, "c2", 0.2, n=2, flags=["trained 320 s of 300 s"])]
    found = judge(s, s.experiment(2), RULES)
    assert isinstance(found, Verdict)
    assert (found.status, found.reason) == ("discard", "trained 320 s of 300 s")


def test_a_rerun_that_crashes_discards() -> None:
    s = state(experiment(1, 1.0, 1.001), experiment(2, 0.9985, None, phase="judging"))
    found = judge(s, s.experiment(2), RULES)
    assert isinstance(found, Verdict)
    assert (found.status, found.value) == ("discard", 0.9985)


@pytest.mark.parametrize("outcome", ["crashed", "timeout"])
def test_a_run_without_a_number_is_a_crash(outcome: ev.Outcome) -> None:
    s = state(experiment(1, 1.0), experiment(2, None, phase="judging"))
    s.experiment(2).trainings = [training(1, "c2", None, n=2, outcome=outcome)]
    assert judge(s, s.experiment(2), RULES) == Verdict("crash", None, 0.0, None, "no finite val_bpb")


def test_near_misses_are_offered_once_there_are_enough_and_once_only() -> None:
    def discarded(n: int, delta: float) -> Experiment:
        given = ev.Judged(n, "discard", f"c{n}", 0.9, 0.0, "", delta, stderr=0.1)
        return experiment(n, 0.9, phase="discard", verdict=given)

    misses = [discarded(n, -0.01) for n in range(2, 16)]
    worse = discarded(16, 0.01)
    s = state(experiment(1, 1.0), *misses, worse)
    assert [e.n for e in verdict.near_misses(s, RULES)] == list(range(2, 16))
    assert verdict.near_misses(s, Rules("improved")) == []
    s.experiments.append(experiment(17, phase="queued", combines=[2, 3]))
    assert verdict.near_misses(s, RULES) == []

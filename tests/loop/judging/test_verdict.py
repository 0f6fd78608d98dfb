"""The rules: what they keep, what they run again, and how sure they are."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev
from loop.experiment import ExperimentPhase
from loop.judging import verdict
from loop.judging.noise import Noise
from loop.judging.rules import Rules
from loop.judging.verdict import Rerun, Verdict, improved, judge
from loop.state import Experiment, RunState
from tests.loop.trainings import training

RULES = Rules()
counts = st.integers(1, 6)
gains = st.floats(-0.02, 0.02)
noises = st.builds(Noise, st.floats(1e-6, 0.01), st.integers(1, 300))


@given(gains, counts, counts, noises)
def test_improved_looks_at_nothing_but_the_sign(gain: float, ours: int, theirs: int, noise: Noise) -> None:
    assert (improved(gain, ours, theirs, noise).action == "keep") == (gain > 0)


# --- on the state of a run ---


def experiment(n: int, *values: float | None, phase: ExperimentPhase = "keep", **fields: Any) -> Experiment:
    trainings = [training(i, f"c{n}", v, n=n) for i, v in enumerate(values, 1)]
    good = [v for v in values if v is not None]
    mean = fmean(good) if good else None
    return Experiment(n, "c1", phase, f"c{n}", trainings=tuple(trainings), value=mean, **fields)


def state(*experiments: Experiment, **fields: object) -> RunState:
    return RunState(base="c1", experiments=list(experiments), incumbent=1, **fields)  # type: ignore[arg-type]


def timed(e: Experiment, *starts: float) -> Experiment:
    """The experiment with its trainings begun at these seconds."""
    for t, start in zip(e.trainings, starts, strict=True):
        t.started_at = start
    return e


def verdict_of(s: RunState, n: int, rules: Rules = RULES) -> Verdict:
    found = judge(s, s.experiment(n), rules)
    assert isinstance(found, Verdict)
    return found


def test_candidate_and_incumbent_run_again_in_turn() -> None:
    baseline, candidate = experiment(1, 1.0, 1.001), experiment(2, 0.997, phase="judging")
    s = state(baseline, candidate)
    turns = []
    for value in (0.998, 1.0):
        found = judge(s, candidate, Rules(max_runs=4))
        assert isinstance(found, Rerun)
        assert "chance that it truly helps" in found.reason
        turns.append(found.n)
        e = s.experiment(found.n)
        e.trainings += (training(len(e.trainings) + 1, e.commit, value, n=e.n),)
    assert turns == [2, 1]
    final = judge(s, candidate, Rules(max_runs=2))
    assert isinstance(final, Verdict)
    assert final.trainings == 2
    assert final.value == pytest.approx(0.9975)


def test_an_incumbent_whose_trainings_fail_does_not_hold_up_the_verdict() -> None:
    s = state(experiment(1, 1.0, 1.001), experiment(2, 0.997, 0.9985, phase="judging"))
    asked = 0
    while isinstance(found := judge(s, s.experiment(2), RULES), Rerun):
        e = s.experiment(found.n)
        value = None if found.n == 1 else 0.998
        e.trainings += (training(len(e.trainings) + 1, e.commit, value, n=e.n),)
        asked += 1
        assert asked < 10
    assert asked


@pytest.mark.parametrize("baseline_runs", [1, 2, 3])
@pytest.mark.parametrize("spread", [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.02])
def test_the_first_keep_never_needs_more_than_three_standard_errors(
    spread: float, baseline_runs: int
) -> None:
    """The gain grows until it is kept. After a rerun both scatter as the baseline does."""
    gain, found = 0.0, verdict.Verdict("discard", None, 0.0, None, "")
    while found.status == "discard":
        gain += spread / 20
        baseline = experiment(1, *[1.0 + (-1) ** i * spread / 2 for i in range(1, baseline_runs + 1)])
        s = state(baseline, experiment(2, 1.0 - gain, phase="judging"), baseline=1.0)
        while isinstance(judged := judge(s, s.experiment(2), RULES), Rerun):
            e = s.experiment(judged.n)
            number, middle = len(e.trainings) + 1, 1.0 if e.n == 1 else 1.0 - gain
            value = middle + (-1) ** number * spread / 2
            e.trainings += (training(number, e.commit, value, n=e.n, started_at=number),)
        found = judged
        if found.status == "discard" and found.stderr:  # None: worse, and too early to say how surely
            assert -(found.delta or 0.0) < 3 * found.stderr
    assert found.stderr
    assert found.stderr < -(found.delta or 0.0)


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize(
    ("gain", "status"),
    [(0.02, "keep"), (0.006, "keep"), (0.0035, None), (-0.001, "discard"), (-0.02, "discard")],
)
def test_both_directions_are_judged_alike(direction: str, gain: float, status: str | None) -> None:
    value = 1.0 - gain if direction == "min" else 1.0 + gain
    s = state(experiment(1, 1.0, 1.001, 0.999), experiment(2, value, phase="judging"), direction=direction)
    found = judge(s, s.experiment(2), RULES)
    assert (found.status if isinstance(found, Verdict) else None) == status
    words = found.evidence if isinstance(found, Verdict) else found.reason
    assert words.startswith("better by" if gain > 0 else "worse by")


@given(st.floats(0.95, 1.05), st.lists(st.floats(0.995, 1.005), min_size=2, max_size=5), st.integers(0, 200))
def test_a_better_number_never_turns_a_keep_into_a_discard(
    value: float, baseline: list[float], lines: int
) -> None:
    def rank(number: float) -> int:
        s = state(experiment(1, *baseline), experiment(2, number, phase="judging", added=lines))
        found = judge(s, s.experiment(2), RULES)
        return 1 if isinstance(found, Rerun) else 2 if found.status == "keep" else 0

    assert rank(value) <= rank(value - 0.001)


def test_a_verdict_is_explained_with_the_number_that_mattered() -> None:
    s = state(experiment(1, 1.0, 1.001), experiment(2, 0.99, phase="judging"))
    found = verdict_of(s, 2)
    assert found.evidence == "better by 0.011 (6.2 standard errors), chance that it truly helps over 99%"
    assert found.reason.startswith("val_bpb 1.000500 -> 0.990000 (-0.010500), better by 0.011 ")
    assert found.delta == pytest.approx(-0.0105)


def test_after_a_long_time_the_incumbent_trains_beside_what_would_be_kept() -> None:
    baseline = timed(experiment(1, 1.0, 1.001), 0, 1)
    between = [timed(experiment(n, 1.004, phase="discard"), n) for n in range(2, 9)]
    candidate = timed(experiment(9, 0.994, phase="judging"), 9)
    s = state(baseline, *between, candidate)
    found = judge(s, candidate, RULES)
    assert isinstance(found, Rerun)
    assert found.n == 1
    assert "the machine may have drifted" in found.reason
    # It has: the incumbent is now as good as the candidate, which is not kept for it.
    baseline.trainings += tuple(training(i, "c1", 0.993, started_at=7 + i) for i in (3, 4))
    while isinstance(found := judge(s, candidate, RULES), Rerun):
        e = s.experiment(found.n)
        number, at = len(e.trainings) + 1, 20 + len(e.values)
        e.trainings += (training(number, e.commit, 0.994, n=e.n, started_at=at),)
    assert found.status == "discard"
    assert "the machine has drifted by 0.00" in found.evidence
    # A gain that no drift reaches needs no training beside it.
    candidate.trainings = (training(1, "c9", 0.9, n=9, started_at=9),)
    baseline.trainings = baseline.trainings[:2]
    assert verdict_of(s, 9).status == "keep"


def test_an_incumbent_that_has_not_trained_for_long_trains_again() -> None:
    baseline = timed(experiment(1, 1.0, 1.001), 0, 1)
    between = [timed(experiment(n, 1.004, phase="discard"), n) for n in range(2, 45)]
    candidate = timed(experiment(45, 1.01, phase="judging"), 45)
    found = judge(state(baseline, *between, candidate), candidate, RULES)
    assert isinstance(found, Rerun)
    assert (found.n, found.reason) == (
        1, "the incumbent trained 43 trainings ago: again, to see whether the machine drifts",
    )  # fmt: skip


def test_a_candidate_that_scatters_wildly_is_not_kept_for_its_mean() -> None:
    s = state(experiment(1, 1.0, 1.001), experiment(2, 0.99, 0.95, 1.02, phase="judging"))
    assert verdict_of(s, 2).status == "discard"


@pytest.mark.parametrize(
    ("value", "lines", "status"),
    [(1.0005, -5, "keep"), (1.0008, -5, "keep"), (1.004, -5, "discard"), (1.0, 9, "discard")],
)
def test_code_has_a_price(value: float, lines: int, status: str) -> None:
    added, removed = max(0, lines), max(0, -lines)
    candidate = experiment(2, value, value, value, phase="judging", added=added, removed=removed)
    assert verdict_of(state(experiment(1, 1.0, 1.001, 1.0005), candidate), 2).status == status


def test_a_simplification_is_not_believed_after_one_run() -> None:
    s = state(experiment(1, 1.0, 1.001), experiment(2, 1.0005, phase="judging", removed=5))
    assert isinstance(judge(s, s.experiment(2), RULES), Rerun)


@given(st.floats(-0.02, 0.02), st.integers(-200, 200))
def test_without_noise_better_is_kept_and_worse_is_not(gain: float, lines: int) -> None:
    added, removed = max(0, lines), max(0, -lines)
    candidate = experiment(2, 1.0 - gain, phase="judging", added=added, removed=removed)
    better = 1.0 - gain < 1.0 or (1.0 - gain == 1.0 and lines < 0)
    assert verdict_of(state(experiment(1, 1.0, 1.0), candidate), 2).status == (
        "keep" if better else "discard"
    )


def test_higher_is_better_when_the_direction_says_so() -> None:
    s = state(experiment(1, 0.5, 0.5), experiment(2, 0.6, phase="judging"), direction="max")
    found = judge(s, s.experiment(2), RULES)
    assert isinstance(found, Verdict)
    assert found.status == "keep"
    assert found.delta == pytest.approx(0.1)


def test_a_printed_number_is_not_believed_once_the_baseline_was_measured() -> None:
    s = state(experiment(1, 1.0, 1.0), experiment(2, 0.2, phase="judging"))
    first = s.experiment(1)
    first.trainings = (training(1, "c1", 1.0, verified=True), *first.trainings[1:])
    found = judge(s, s.experiment(2), RULES)
    assert isinstance(found, Verdict)
    assert (found.status, found.value) == ("crash", None)
    assert found.reason.startswith("unverified")


def test_a_flagged_run_is_not_kept_however_good() -> None:
    s = state(experiment(1, 1.0, 1.0), experiment(2, 0.2, phase="judging"))
    s.experiment(2).trainings = (training(1, "c2", 0.2, n=2, flags=["trained 320 s of 300 s"]),)
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
    s.experiment(2).trainings = (training(1, "c2", None, n=2, outcome=outcome),)
    assert judge(s, s.experiment(2), RULES) == Verdict("crash", None, 0.0, None, "no finite val_bpb")


def discarded(n: int, delta: float, stderr: float = 0.0012) -> Experiment:
    return experiment(n, 1.0 + delta, phase="discard", delta=delta, stderr=stderr, judged_trainings=1)


def test_near_misses_are_offered_once_they_promise_enough_and_once_only() -> None:
    s = state(experiment(1, 1.0, 1.001), discarded(2, -0.0015), discarded(3, 0.003))
    assert verdict.near_misses(s, RULES) == []
    s.experiments += [discarded(n, -0.0015) for n in range(4, 8)]
    assert [e.n for e in verdict.near_misses(s, RULES)] == [2, 4, 5, 6, 7]
    assert [e.n for e in verdict.near_misses(s, Rules(combine=4))] == [4, 5, 6, 7]
    assert verdict.near_misses(s, Rules("improved")) == verdict.near_misses(s, Rules(combine=0)) == []
    s.experiments.append(experiment(8, phase="queued", combines=[2, 4, 5, 6, 7]))
    assert verdict.near_misses(s, RULES) == []


def test_what_its_parts_promised_counts_for_a_combination() -> None:
    parts = [discarded(n, -0.0025) for n in range(2, 8)]
    single = experiment(8, 0.9965, phase="judging")
    together = experiment(8, 0.9965, phase="judging", combines=list(range(2, 8)))
    assert isinstance(judge(state(experiment(1, 1.0, 1.001), *parts, single), single, RULES), Rerun)
    assert verdict_of(state(experiment(1, 1.0, 1.001), *parts, together), 8).status == "keep"

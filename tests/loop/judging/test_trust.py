"""Reasons not to believe a training's number: by itself, and beside the baseline and the incumbent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.judging import verdict
from loop.judging.trust import Sealed, printed_flags, sealed_flags, unlike_baseline
from loop.state import Experiment, RunState, Training
from tests.loop.trainings import training

seconds = st.floats(0, 1000)


@pytest.mark.parametrize(
    ("trained", "total", "printed", "budget", "wall", "words"),
    [
        (300.0, 330.0, 1.0, 300.0, 332.0, []),
        (305.9, 330.0, 1.0, 300.0, 332.0, []),  # a last step
        (306.1, 340.0, 1.0, 300.0, 342.0, ["over budget"]),
        (20.9, 30.0, 1.0, 20.0, 31.0, []),  # a step of a small budget on a busy machine
        (300.0, 310.0, 1.0, 300.0, 400.0, ["outside the trainer's own clock"]),
        (300.0, 330.0, 0.5, 300.0, 332.0, ["it printed"]),
        (300.0, 330.0, None, 300.0, 332.0, []),
        (400.0, 410.0, 0.5, 300.0, 500.0, ["over budget", "outside the trainer's own clock", "it printed"]),
    ],
)
def test_a_sealed_number_is_held_against_budget_clock_and_what_was_printed(
    trained: float, total: float, printed: float | None, budget: float, wall: float, words: list[str]
) -> None:
    sealed = Sealed("n", 1.0, training_seconds=trained, total_seconds=total)
    found = sealed_flags(sealed, printed, budget, wall)
    assert len(found) == len(words)
    assert all(word in flag for word, flag in zip(words, found, strict=True))


@given(budget=st.floats(1, 1000), trained=seconds, longer=seconds)
def test_longer_training_is_never_trusted_more(budget: float, trained: float, longer: float) -> None:
    def flags(s: float) -> int:
        return len(sealed_flags(Sealed("n", 1.0, training_seconds=s, total_seconds=s), None, budget, s))

    assert flags(trained) <= flags(trained + longer)
    assert flags(min(trained, budget)) == 0


@pytest.mark.parametrize(
    ("claimed", "wall", "steps", "full", "found"),
    [
        (300.0, 340, 320, True, []),
        (None, 310, 300, True, []),
        (300.0, 500, 430, True, []),  # a slow start, and a clock that leaves some of it out
        (300.0, 560, 540, True, ["it trained for 540 s with a budget of 300 s"]),
        (500.0, 560, 300, True, ["it trained for 500 s with a budget of 300 s"]),
        (300.0, 5, 0, False, ["it says that it trained for 300 s, but it ran for 5.0 s"]),
        (None, 5, 0, False, []),
        (None, 5, 0, True, ["it ended after 5.0 s of a budget of 300 s"]),
        ("much", 310, 300, True, []),
    ],
)
def test_a_printed_number_is_held_against_the_engines_clock(
    claimed: float | str | None, wall: float, steps: float, full: bool, found: list[str]
) -> None:
    summary = {} if claimed is None else {"training_seconds": claimed}
    assert printed_flags(summary, 300, wall, steps, full=full) == found


# --- beside the baseline and the incumbent ---


def sealed(
    commit: str, value: float, hidden: float | None, data: str = "d", excluded_s: float = 5.0
) -> Training:
    return training(1, commit, value, verified=True, hidden=hidden, data=data, excluded_seconds=excluded_s)


def experiment(n: int, measured: Training) -> Experiment:
    return Experiment(
        n=n, parent="", phase="keep" if n == 1 else "judging", commit=measured.commit, trainings=[measured]
    )


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (sealed("b", 1.20, 1.19), []),
        (sealed("b", 1.28, 1.31), []),  # a little better on the one than on the other: luck
        (sealed("b", 1.10, 1.29), ["does not hold"]),
        (sealed("b", 1.20, 1.19, data="e"), ["other data"]),
        (sealed("b", 1.20, 1.19, excluded_s=39.0), []),
        (sealed("b", 1.20, 1.19, excluded_s=41.0), ["left out 36.0 s more"]),
        (sealed("b", 1.10, None), []),
        (sealed("b", 1.10, 1.29, data="e", excluded_s=99.0), ["other data", "left out", "does not hold"]),
    ],
)
def test_a_training_unlike_the_baseline_is_discarded(measured: Training, words: list[str]) -> None:
    first = experiment(1, sealed("a", 1.30, 1.29))
    first.value = 1.30
    second = experiment(2, measured)
    state = RunState(base="a", incumbent=1, experiments=[first, second])
    found = unlike_baseline(state, measured)
    assert len(found) == len(words)
    assert all(word in doubt for word, doubt in zip(words, found, strict=True))
    judged = verdict.judge(state, second, verdict.Rules("improved"))
    assert isinstance(judged, verdict.Verdict)
    assert judged.status == ("discard" if words else "keep")


def test_the_hidden_text_is_held_against_the_baseline_however_far_keeps_have_crept_from_it() -> None:
    first, kept = experiment(1, sealed("a", 1.30, 1.30)), experiment(2, sealed("b", 1.25, 1.30))
    kept.phase = "keep"
    state = RunState(base="a", incumbent=2, experiments=[first, kept])
    assert unlike_baseline(state, sealed("c", 1.24, 1.30)) == []
    assert len(unlike_baseline(state, sealed("c", 1.22, 1.30))) == 1  # within 5% of the incumbent's ratio


def test_a_baseline_that_was_not_sealed_is_nothing_to_compare_with() -> None:
    first = experiment(1, training(1, "a", 1.30))
    state = RunState(base="a", incumbent=1, experiments=[first])
    assert unlike_baseline(state, sealed("b", 0.1, 9.0, data="e", excluded_s=900.0)) == []
    assert unlike_baseline(RunState(), sealed("b", 0.1, 9.0)) == []


def test_the_baseline_is_not_compared_with_itself_but_its_later_trainings_are() -> None:
    first = experiment(1, sealed("a", 1.30, 1.29))
    again = training(2, "a", 1.30, data="e")
    first.trainings.append(again)
    state = RunState(base="a", incumbent=1, experiments=[first])
    assert unlike_baseline(state, first.trainings[0]) == []
    assert unlike_baseline(state, again) == ["it was evaluated on other data than the baseline"]


def test_the_baseline_is_kept_whatever_the_machine_does() -> None:
    measured = training(1, "a", 1.3, hidden=1.3, data="d", flags=["over budget: trained 30.0 s of 20 s"])
    e = experiment(1, measured)
    e.phase = "judging"
    judged = verdict.judge(RunState(base="a", experiments=[e]), e, verdict.Rules())
    assert isinstance(judged, verdict.Verdict)
    assert (judged.status, judged.reason) == ("keep", "baseline, but over budget: trained 30.0 s of 20 s")

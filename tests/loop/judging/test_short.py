"""Reasons that fit a narrow column."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import Experiment
from loop.judging.short import WIDEST, short_reason
from loop.judging.verdict import Verdict
from loop.state import RunState
from tests.loop.trainings import training


def run_with(theirs: float = 0.0, ours: float = 0.0, **fields: Any) -> tuple[RunState, Experiment]:
    """A baseline and a candidate whose trainings made so many steps (0: it is not known)."""
    found = []
    for n, steps in ((1, theirs), (2, ours)):
        t = training(1, f"c{n}", 1.0, n=n, summary={"num_steps": steps} if steps else {})
        found.append(Experiment(n, "c1", "keep" if n == 1 else "judging", f"c{n}", trainings=(t,), value=1.0))
    return RunState(base="c1", experiments=found, incumbent=1, **fields), found[1]


def difference(status: str, delta: float, stderr: float | None = 0.001) -> Verdict:
    return Verdict(status, 1.0, 0.0, delta, "a sentence", stderr=stderr)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (difference("keep", -0.0034), "3.4 se better"),
        (difference("keep", -0.0034, None), "better"),
        (difference("keep", 0.0002), "simpler"),
        (difference("discard", -0.0012), "within noise"),
        (difference("discard", +0.0012), "within noise"),
        (difference("discard", -0.0021), "not sure enough"),
        (difference("discard", 0.0), "no difference"),
        (difference("discard", +0.03), "worse"),
    ],
)
def test_a_comparison(verdict: Verdict, words: str) -> None:
    assert short_reason(*run_with(), verdict) == words


def test_a_slower_candidate_is_called_slower() -> None:
    assert short_reason(*run_with(1000.0, 880.0), difference("discard", 0.03)) == "12% fewer steps"
    assert short_reason(*run_with(1000.0, 990.0), difference("discard", 0.03)) == "worse"


def test_a_high_metric_can_be_the_good_one() -> None:
    state, e = run_with(direction="max")
    assert short_reason(state, e, difference("discard", 0.0012)) == "within noise"
    assert short_reason(state, e, difference("keep", 0.01)) == "10.0 se better"


def test_the_baseline() -> None:
    state, e = run_with()
    state.incumbent = None
    assert short_reason(state, e, Verdict("keep", 1.0, 0.0, None, "baseline, but slow")) == "baseline"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB (exit code 1)",
            "out of memory",
        ),
        ("TypeError: forward() takes 2 arguments (exit code 1)", "TypeError"),
        ("loss is nan at step 12 (exit code 1)", "diverged"),
        ("exit code -11", "exit code -11"),
        ("refused by the judge: it claims to know more than it proved", "judge refused"),
        ("over budget: 320 s from start to exit with a budget of 300 s", "over budget"),
        ("stopped early: the loss is 0.4 behind", "stopped early"),
        ("stopped by hand", "stopped by you"),
        ("something nobody has thought of", "something nobod"),
    ],
)
def test_a_failure(reason: str, words: str) -> None:
    assert short_reason(*run_with(), Verdict("crash", None, 0.0, None, reason)) == words


@given(st.text(), st.none() | st.floats(-1, 1), st.none() | st.floats(1e-9, 1))
def test_it_always_fits(reason: str, delta: float | None, stderr: float | None) -> None:
    judged = Verdict("discard", 1.0, 0.0, delta, reason, stderr=stderr)
    assert len(short_reason(*run_with(1e4, 1.0), judged)) <= WIDEST

"""What a training is told to need is what the verdict then asks of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.experiment import Experiment
from loop.judging.needed import needed
from loop.judging.rules import Rules
from loop.judging.verdict import Rerun, judge
from loop.state import RunState
from tests.loop.trainings import training


def run_with(*baseline: float) -> tuple[RunState, Experiment]:
    """A baseline with these values, and a candidate that has not trained yet."""
    own = [training(i, "c1", v, n=1) for i, v in enumerate(baseline, 1)]
    for i, t in enumerate(own):
        t.started_at = float(i)
    first = Experiment(1, "c0", "keep", "c1", trainings=tuple(own), value=sum(baseline) / len(baseline))
    candidate = Experiment(2, "c1", "queued", "c2")
    return RunState(base="c1", experiments=[first, candidate], incumbent=1, baseline=first.value), candidate


@settings(max_examples=30)
@given(st.floats(0.0005, 0.004), st.floats(-0.0002, 0.0002))
def test_the_bound_is_that_of_the_verdict(noise: float, off: float) -> None:
    state, e = run_with(1.0 - noise, 1.0, 1.0 + noise)
    words = needed(state, e, Rules())
    bound = float(re.findall(r"\d\.\d{4}", words)[0])
    if abs(off) < 6e-5:  # the bound is rounded to four digits
        return
    e.trainings, e.phase = (training(1, "c2", bound + off, n=2),), "judging"
    e.trainings[0].started_at = 10.0
    found = judge(state, e, Rules())
    kept = not isinstance(found, Rerun) and found.status == "keep"
    asks_incumbent = isinstance(found, Rerun) and found.n == 1 and "drifted" in found.reason
    assert (kept or asks_incumbent) == (off < 0)


def test_rule_improved_needs_no_more_than_the_incumbent() -> None:
    state, e = run_with(1.0, 1.002)
    assert needed(state, e, Rules("improved")) == "kept below 1.0010"
    state.direction = "max"
    assert needed(state, e, Rules("improved")) == "kept above 1.0010"


def test_before_the_noise_is_known() -> None:
    state, e = run_with(1.0)
    state.metric = "something else, whose noise nobody knows"
    assert "the noise is not known yet" in needed(state, e, Rules())


def test_the_incumbent_and_the_baseline() -> None:
    state, e = run_with(1.0, 1.001)
    assert "measures the incumbent again" in needed(state, state.experiment(1), Rules())
    state.incumbent = None
    assert "baseline" in needed(state, e, Rules())


@pytest.mark.parametrize("value", [0.9, 0.99, 1.0, 1.1])
def test_a_second_training_counts_the_first(value: float) -> None:
    state, e = run_with(0.999, 1.0, 1.001)
    e.trainings = (training(1, "c2", value, n=2),)
    assert needed(state, e, Rules()).startswith(("kept below about", "no single training decides"))

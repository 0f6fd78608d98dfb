"""Limits in words, and the goal of a run."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.events import Limits
from loop.judging import goal
from tui.text import limits_line

limits = st.builds(
    Limits,
    st.none() | st.integers(1, 10**6),
    st.none() | st.floats(0.1, 1000).map(lambda x: round(x, 2)),
    st.none() | st.floats(0.1, 1000).map(lambda x: round(x, 2)),
    st.none() | st.integers(1, 100),
    st.sampled_from(["", "val_bpb < 1.2", "val_bpb <= 0.95"]),
)


@given(limits)
def test_what_the_screen_shows_is_what_the_engine_takes(limits: Limits) -> None:
    assert goal.parse(limits_line(limits), "val_bpb", "min") == limits


def test_what_is_not_named_does_not_limit() -> None:
    assert goal.parse("", "val_bpb", "min") == Limits(max_crashes=None)
    assert goal.parse(" hours 8 ,", "val_bpb", "min") == Limits(max_hours=8, max_crashes=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hours", "hours '' must be a number above 0"),
        ("hours -1", "must be a number above 0"),
        ("hours inf", "must be a number above 0"),
        ("hours nan", "must be a number above 0"),
        ("experiments 1.5", "must be a whole number above 0"),
        ("days 3", "a limit is one of experiments, hours, cost, crashes, until"),
        ("until 1.2", 'must be such as "val_bpb < 1.2"'),
        ("until val_bpb > 1.2", 'must be such as "val_bpb < 1.2"'),
        ("until loss < 1.2", 'must be such as "val_bpb < 1.2"'),
        ("until val_bpb < 1.2.3", "must end with a number"),
    ],
)
def test_what_is_no_limit(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        goal.parse(text, "val_bpb", "min")


@pytest.mark.parametrize(
    ("until", "best", "direction", "is_reached"),
    [
        ("val_bpb < 1.2", 1.2, "min", False),
        ("val_bpb < 1.2", 1.1999, "min", True),
        ("val_bpb <= 1.2", 1.2, "min", True),
        ("val_bpb > 0.9", 0.95, "max", True),
        ("val_bpb < 1.2", None, "min", False),
        ("", 0.1, "min", False),
        ("accuracy > 3", 5.0, "max", False),
    ],
)
def test_the_goal(until: str, best: float | None, direction: str, is_reached: bool) -> None:
    assert bool(goal.reached(Limits(until=until), best, "val_bpb", direction)) == is_reached


@given(st.text())
def test_no_text_is_more_than_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        goal.parse(text, "val_bpb", "min")

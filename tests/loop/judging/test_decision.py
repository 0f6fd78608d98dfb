"""Keep, discard or train again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.judging.comparison import Comparison, History, compare, first_level
from loop.judging.decision import STALE, decide, price_of, share, words, worth_training
from loop.judging.gains import PRIOR, believe
from loop.judging.level import Level, Training
from loop.judging.noise import Noise
from loop.judging.rules import Rules

RULES = Rules()
LEVEL = Level(0, 0.0, 0.5)


def comparison(
    gain: float, ours: int = 1, theirs: int = 2, apart: int = 0, price: float = 0.0, drift: float = 0.0
) -> Comparison:
    error = (1 / ours + 1 / theirs) ** 0.5
    level = Level(0, 0.0, 0.5, drift)
    return Comparison(gain, error, believe(gain - price, error), ours, theirs, theirs, level, apart)


def action(found: Comparison, lines: int = 0, value: float = 1.0) -> str:
    return decide(found, 0.001, value, lines, PRIOR, RULES).action


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (comparison(10.0), "keep"),
        (comparison(-10.0), "discard"),
        (comparison(0.5), "discard"),
        (comparison(2.6), "rerun"),
        (comparison(2.6, ours=2), "rerun incumbent"),
        (comparison(1.0, ours=3, theirs=3), "discard"),
        (comparison(3.7), "keep"),  # three standard errors are always enough
        (comparison(5.0, apart=5), "rerun incumbent"),
        (comparison(50.0, apart=5), "keep"),  # no drift reaches that far
        (comparison(-1.0, apart=STALE + 1), "rerun incumbent"),
    ],
)
def test_decisions(found: Comparison, expected: str) -> None:
    assert action(found) == expected


@given(st.floats(-20, 20), st.integers(1, 6), st.integers(1, 6), st.integers(-50, 200))
def test_more_gain_never_gets_a_worse_verdict(gain: float, ours: int, theirs: int, lines: int) -> None:
    order, price = ["discard", "rerun", "keep"], price_of(lines, RULES)
    low, high = (action(comparison(g, ours, theirs, price=price), lines).split()[0] for g in (gain, gain + 1))
    assert order.index(high) >= order.index(low)


@given(st.floats(-20, 20), st.integers(1, 6), st.integers(0, 200))
def test_reruns_end(gain: float, theirs: int, lines: int) -> None:
    assert not action(comparison(gain, RULES.max_runs, theirs), lines).startswith("rerun")


@given(st.floats(-20, 20), st.integers(1, 3), st.integers(1, 6), st.integers(0, 200))
def test_nothing_worse_is_kept_unless_it_removes_code(
    gain: float, ours: int, theirs: int, lines: int
) -> None:
    if action(comparison(gain, ours, theirs), lines) == "keep":
        assert gain > 0


def test_an_added_line_must_pay_for_itself() -> None:
    assert [price_of(lines, RULES) for lines in (-5, 0, 10, 500)] == [0, 0, 0.2, 1]
    assert action(comparison(2.45, 3, 3), 0) == "keep"
    assert action(comparison(2.45, 3, 3, price=1.0), 100) == "discard"
    why = decide(comparison(2.45, 3, 3, price=1.0), 0.001, 1.0, 100, PRIOR, RULES).why
    assert why.endswith("90% needed beyond 0.001000 for 100 lines more")


def test_training_again_is_for_what_may_help() -> None:
    assert worth_training(comparison(2.5), PRIOR)
    assert not worth_training(comparison(0.0), PRIOR)
    assert not worth_training(comparison(-3.0), PRIOR)


def test_words_are_for_someone_who_reads_them_for_the_first_time() -> None:
    assert words(comparison(2.6), 0.001) == (
        "better by 0.0026 (2.1 standard errors), chance that it truly helps 73%"
    )
    assert words(comparison(-4.0, 2, 2), 0.001).startswith(
        "worse by 0.004 (4.0 standard errors over 2 and 2 trainings)"
    )
    assert words(comparison(1.0, drift=-5.0), 0.001).endswith(
        "; the machine has drifted by 0.005, only trainings since then count"
    )
    assert (share(0.004), share(0.5), share(0.999)) == ("under 1%", "50%", "over 99%")


def test_a_candidate_that_is_just_as_good_is_kept_with_a_chance_below_5_percent() -> None:
    chance, kept = random.Random(5), 0
    for _ in range(3000):
        ours, theirs = (
            [Training(2, chance.gauss(0, 1))],
            [Training(at, chance.gauss(0, 1)) for at in range(2)],
        )
        while True:
            history = History(Noise(1, 50), first_level(theirs[0]), 1, tuple(theirs[1:]), theirs[-1].at)
            done = decide(compare(history, ours), 1.0, 1e9, 0, PRIOR, RULES).action
            if done in ("keep", "discard"):
                break
            at = len(ours) + len(theirs)
            (ours if done == "rerun" else theirs).append(Training(at, chance.gauss(0, 1)))
        kept += done == "keep"
    assert 0.002 < kept / 3000 < 0.05

"""A candidate beside its incumbent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.judging.comparison import History, compare, first_level, successor
from loop.judging.gains import believe
from loop.judging.level import Level, Training
from loop.judging.noise import Noise

NOISE = Noise(0.001, 50)
values = st.floats(-3, 3)


def history(*baseline: float, **fields: object) -> History:
    trainings = [Training(at, value) for at, value in enumerate(baseline)]
    later = tuple(trainings[1:])
    return History(NOISE, first_level(trainings[0]), 1, later, trainings[-1].at, **fields)  # type: ignore[arg-type]


def test_a_candidate_is_compared_with_all_trainings_of_the_incumbent() -> None:
    found = compare(history(0.0, 1.0), [Training(2, 3.5)])
    assert found.gain == pytest.approx(3.0, abs=0.02)
    assert found.error == pytest.approx((1 + 1 / 2) ** 0.5, abs=0.02)
    assert (found.ours, found.theirs, found.apart) == (1, 2, 0)
    assert compare(history(0.0, 1.0), [Training(9, 3.5)]).apart == 7


@given(st.lists(values, min_size=1, max_size=4), values)
def test_the_gain_is_believed_less_for_what_it_must_pay(baseline: list[float], value: float) -> None:
    candidate = [Training(9, value)]
    free, dear = compare(history(*baseline), candidate), compare(history(*baseline), candidate, price=1.0)
    assert free.gain == dear.gain
    assert free.belief.helps >= dear.belief.helps


@given(values, values)
def test_another_equal_training_makes_surer(baseline: float, value: float) -> None:
    once = compare(history(baseline, baseline), [Training(2, value)])
    twice = compare(history(baseline, baseline), [Training(2, value), Training(3, value)])
    assert twice.error < once.error


def test_a_kept_number_is_drawn_towards_what_is_believed() -> None:
    gain, error = 3.0, 1.22
    belief = believe(gain, error)
    found = successor(Level(5, 1003.0, 1.0), 1, gain, error, belief)
    assert 1001 < found.value < 1003
    assert 0 < found.variance < 1.5
    assert found.at == 5
    clear = successor(Level(5, 1030.0, 1.0), 1, 30.0, error, believe(30.0, error))
    assert clear.value == pytest.approx(1030, abs=0.2)

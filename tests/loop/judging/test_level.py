"""Where the incumbent stands, and what a drifting machine does to that."""

from __future__ import annotations

import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.judging.gains import PRIOR
from loop.judging.level import DRIFT, Level, Training, follow, refine

START = Level(0, 1000.0, 1.0)
near = st.floats(-2, 2).map(lambda off: 1000 + off)


def test_trainings_close_to_another_are_averaged() -> None:
    found = follow(START, [Training(1, 1001.0), Training(2, 999.0)], 2)
    assert found.value == pytest.approx(1000, abs=0.1)
    assert found.variance == pytest.approx(1 / 3, abs=0.02)
    assert not found.drift


@given(st.lists(near, max_size=6), near)
def test_more_evidence_never_widens(values: list[float], one_more: float) -> None:
    trainings = [Training(i, value) for i, value in enumerate(values, 1)]
    now = len(values) + 1
    before, after = follow(START, trainings, now), follow(START, [*trainings, Training(now, one_more)], now)
    assert after.drift != before.drift or after.variance <= before.variance


def test_time_widens() -> None:
    assert follow(START, [], 50).variance == pytest.approx(1 + 50 * DRIFT**2)


def test_a_training_far_off_shows_that_the_machine_has_changed() -> None:
    steady = [Training(i, 1000.0) for i in range(1, 4)]
    found = follow(START, [*steady, Training(30, 1005.0), Training(31, 1005.4)], 31)
    assert found.since == 30
    assert found.drift == pytest.approx(5, abs=0.1)
    assert found.value == pytest.approx(1005.2, abs=0.1)


def test_a_slow_drift_is_followed() -> None:
    chance = random.Random(1)
    trainings = [Training(at, 1000 + 0.03 * at + chance.gauss(0, 1)) for at in range(1, 200, 10)]
    assert follow(START, trainings, 200).value == pytest.approx(1006, abs=1.2)


def test_candidates_show_where_the_incumbent_is() -> None:
    chance = random.Random(2)
    errors = {False: [], True: []}  # type: dict[bool, list[float]]
    for _ in range(60):
        level = Level(0, chance.gauss(0, 1), 1.0)
        gains = [
            0.0 if (kind := chance.random()) < 0.25 else chance.expovariate(1 / 0.8) if kind < 0.5
            else -chance.expovariate(1 / 3)
            for _ in range(25)
        ]  # fmt: skip
        candidates = [Training(i, gain + chance.gauss(0, 1)) for i, gain in enumerate(gains, 1)]
        errors[False].append(level.value**2)
        errors[True].append(refine(level, candidates, PRIOR).value ** 2)
    assert fmean(errors[True]) < 0.7 * fmean(errors[False])


def test_only_candidates_since_the_machine_changed_are_looked_at() -> None:
    level = Level(9, 0.0, 1.0, 4.0, since=9)
    assert refine(level, [Training(3, 50.0)], PRIOR) == refine(level, [], PRIOR) == level
    assert refine(level, [Training(10, -0.5)], PRIOR) != level

"""What the surrogate model expects, where the truth is known."""

from __future__ import annotations

import ast
import math
import random
import subprocess
import sys

import numpy as np
import pytest

from loop.agents.surrogate import (
    BOLDER,
    CAUTION,
    CRASH,
    MORE_CAREFUL,
    MOST,
    Point,
    Surrogate,
    _caution,
    _expected_improvement,
    _in_units,
)

HERE = (0.5, 0.5)


def points(count: int, noise: float = 0.0) -> list[Point]:
    """Results around `HERE`: the first coordinate matters and should be smaller, the second does nothing."""
    chance = random.Random(0)
    found = [Point(HERE, "a", 1.0)]
    for _ in range(count):
        x, y = chance.uniform(0.2, 0.8), chance.uniform(0.2, 0.8)
        found.append(Point((x, y), "a", 1.0 + 0.1 * (x - 0.5) + chance.gauss(0, noise)))
    return found


def test_it_learns_which_way_is_better_and_what_does_not_matter() -> None:
    surrogate = Surrogate(points(24), HERE, "a", 1.0)
    down, up, aside = surrogate.gains([(0.35, 0.5), (0.65, 0.5), (0.5, 0.65)])
    assert down.mean > 0 > up.mean
    assert down.improvement > aside.improvement > up.improvement
    assert down.mean == pytest.approx(0.015, abs=0.01)


def test_it_needs_one_thread_and_tells_trainings_nothing_of_it() -> None:
    ask = "import os, loop.agents.surrogate; print(len(os.listdir('/proc/self/task')), dict(os.environ))"
    for given in ({}, {"OPENBLAS_NUM_THREADS": "7"}):
        done = subprocess.run(
            [sys.executable, "-c", ask], env=given, capture_output=True, text=True, check=True
        )
        threads, environ = done.stdout.split(" ", 1)
        assert threads == "1"
        assert ast.literal_eval(environ).get("OPENBLAS_NUM_THREADS") == given.get("OPENBLAS_NUM_THREADS")


def test_what_has_been_tried_is_less_uncertain() -> None:
    surrogate = Surrogate(points(24), HERE, "a", 1.0)
    near, far = surrogate.gains([(0.5, 0.45), (0.0, 1.0)])
    assert near.spread < far.spread


def test_without_results_near_moves_are_expected_to_lose_less_than_far_ones() -> None:
    surrogate = Surrogate([Point(HERE, "a", 1.0)], HERE, "a", 1.0)
    near, far = surrogate.gains([(0.6, 0.5), (1.0, 0.5)])
    assert 0 > near.mean > far.mean


def test_a_crash_is_worse_than_the_incumbent() -> None:
    crashed = [*points(8), *(Point((0.5, 0.9), "a") for _ in range(3))]
    surrogate = Surrogate(crashed, HERE, "a", 1.0)
    there, opposite = surrogate.gains([(0.5, 0.88), (0.5, 0.12)])
    assert there.mean < opposite.mean


def test_what_is_in_training_makes_its_place_less_interesting() -> None:
    place = (0.35, 0.5)
    before = Surrogate(points(12, noise=0.005), HERE, "a", 1.0).gains([place])[0]
    pending = Point(place, "a", pending=True)
    after = Surrogate([*points(12, noise=0.005), pending], HERE, "a", 1.0).gains([place])[0]
    assert after.improvement < before.improvement
    assert after.mean == pytest.approx(before.mean, abs=1e-6), "the expected result teaches nothing"


def test_another_version_of_the_code_has_a_level_of_its_own() -> None:
    """What is learned about a hyperparameter carries over; that the old code was much worse does not."""
    old = [Point(p.place, "old", None if p.value is None else p.value + 5.0) for p in points(24)]
    surrogate = Surrogate([*old, Point(HERE, "new", 1.0)], HERE, "new", 1.0)
    down, up = surrogate.gains([(0.35, 0.5), (0.65, 0.5)])
    assert down.mean > up.mean
    assert abs(down.mean) < 0.1


def test_only_the_latest_experiments_are_used() -> None:
    many = [Point((0.1, 0.1), "a", 9.0)] * 50 + points(MOST - 1)
    assert Surrogate(many, HERE, "a", 1.0).gains([(0.35, 0.5)]) == Surrogate(
        points(MOST - 1), HERE, "a", 1.0
    ).gains([(0.35, 0.5)])


def test_values_are_counted_in_typical_effects() -> None:
    done = [Point(HERE, "a", v) for v in (1.0, 1.2, 0.8, 1.4)] + [Point(HERE, "b", v) for v in (5.0, 5.4)]
    values, unit = _in_units([*done, Point(HERE, "a")], "a", 1.0)
    assert unit == pytest.approx(0.2)
    assert values == pytest.approx(np.array([0, 1, -1, 2, -1, 1, CRASH]))
    values, unit = _in_units([Point(HERE, "a", 7.0)], "a", 1.0)
    assert (values.tolist(), unit) == ([6.0], 1.0), "a single result is no measure of effects, and is bounded"


@pytest.mark.parametrize(("gain", "spread"), [(0.0, 1.0), (1.0, 0.5), (-2.0, 1.0)])
def test_expected_improvement_is_the_mean_of_what_is_better(gain: float, spread: float) -> None:
    drawn = np.random.default_rng(0).normal(gain, spread, 400_000)
    assert _expected_improvement(gain, spread) == pytest.approx(np.maximum(drawn, 0).mean(), abs=5e-3)
    assert _expected_improvement(0.0, 1.0) == pytest.approx(1 / math.sqrt(2 * math.pi))


def test_caution_shrinks_where_changes_succeed_and_grows_where_they_fail() -> None:
    def caution(*values: float | None, code: str = "a") -> float:
        return _caution([Point(HERE, code, value) for value in values])

    assert caution() == caution(1.0) == caution(1.0, 1.1, 1.2) == CAUTION, "the incumbent is decent at first"
    assert caution(1.0, 0.9) == CAUTION * BOLDER
    assert caution(1.0, 0.9, 0.8) == CAUTION * BOLDER**2
    assert caution(1.0, 0.9, 0.95) == caution(1.0, 0.9, None) == CAUTION * BOLDER * MORE_CAREFUL
    other = [Point(HERE, "a", 1.0), Point(HERE, "a", 0.9), Point(HERE, "b", 0.8)]
    assert _caution(other) == CAUTION * BOLDER, "another version of the code is no success of a move"


def test_a_far_move_is_expected_to_lose_less_after_successes() -> None:
    falling = [Point((0.5, 0.5), "a", 1.0 - 0.01 * i) for i in range(3)]
    rising = [Point((0.5, 0.5), "a", 0.98 + 0.01 * i) for i in range(3)]
    after = [Surrogate(rows, HERE, "a", 0.98).gains([(0.5, 1.0)])[0].mean for rows in (falling, rising)]
    assert 0 > after[0] > after[1]

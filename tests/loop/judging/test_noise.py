"""Noise estimates and the evidence they allow."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.judging.noise import Noise, needed, pooled

numbers = st.integers(-(10**6), 10**6).map(lambda n: n / 1000)
groups = st.lists(st.lists(numbers, max_size=6), max_size=6)


@pytest.mark.parametrize(
    ("error", "degrees", "expected"),
    [(0.025, 1, 12.7062), (0.025, 2, 4.3027), (0.025, 5, 2.5706), (0.005, 10, 3.1693), (0.05, 30, 1.6973),
     (0.025, 100_000, 1.9600)],
)  # fmt: skip
def test_needed_is_students_quantile(error: float, degrees: int, expected: float) -> None:
    assert needed(error, degrees) == pytest.approx(expected, abs=1e-4)


@given(st.integers(1, 60), st.floats(0.001, 0.4))
def test_more_replicates_and_more_error_need_less(degrees: int, error: float) -> None:
    assert needed(error, degrees) >= needed(error, degrees + 1) - 1e-9
    assert needed(error, degrees) >= needed(min(0.49, error * 1.1), degrees)


def test_the_pooled_deviation_of_many_groups_is_that_of_one_training() -> None:
    generator = random.Random(1)
    samples = [[generator.gauss(mean, 0.001) for _ in range(3)] for mean in range(400)]
    noise = pooled(samples)
    assert noise.degrees == 800
    assert noise.deviation == pytest.approx(0.001, rel=0.06)


@given(groups)
def test_pooled_never_fails_and_counts_replicates(values: list[list[float]]) -> None:
    noise = pooled(values)
    assert noise.degrees == sum(len(v) - 1 for v in values if v)
    assert math.isfinite(noise.deviation)
    assert noise.none == (noise.known and all(len(set(v)) <= 1 for v in values))


@given(groups, numbers)
def test_noise_does_not_depend_on_where_the_values_lie(values: list[list[float]], shift: float) -> None:
    moved = pooled([[v + shift for v in group] for group in values])
    assert moved.deviation == pytest.approx(pooled(values).deviation, rel=1e-6, abs=1e-9)


def test_a_mean_of_more_trainings_has_a_smaller_error() -> None:
    noise = Noise(0.002, 5)
    assert noise.of_difference(1, 1) == pytest.approx(0.002 * math.sqrt(2))
    assert noise.of_difference(4, 4) < noise.of_difference(1, 4) < noise.of_difference(1, 1)

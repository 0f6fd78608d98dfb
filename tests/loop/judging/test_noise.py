"""The estimate of the noise: what replicates show, what is usual, and what a wild candidate may do to it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.judging.noise import Noise, near_in_time, needed, own_scatter, pooled, usual

numbers = st.integers(-(10**6), 10**6).map(lambda n: n / 1000)
groups = st.lists(st.lists(numbers, max_size=6), max_size=6)
USUAL = usual("val_bpb", 1.0)


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


@given(st.integers(1, 300))
def test_more_replicates_need_less_caution(degrees: int) -> None:
    assert Noise(1.0, degrees).caution >= Noise(1.0, degrees + 1).caution >= 1


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


def test_two_trainings_of_the_baseline_do_not_leave_one_degree_of_freedom() -> None:
    noise = pooled([[1.0, 1.0001]], USUAL)
    assert noise.degrees == 5
    assert 0.0005 < noise.deviation < 0.0015
    assert pooled([[1.0, 1.004]], USUAL).deviation > noise.deviation


@pytest.mark.parametrize("deviation", [0.00003, 0.03])
def test_replicates_that_contradict_what_is_usual_are_believed(deviation: float) -> None:
    generator = random.Random(2)
    values = [[generator.gauss(1, deviation) for _ in range(2)] for _ in range(8)]
    assert deviation / 2 < pooled(values, USUAL).deviation < 2 * deviation


@pytest.mark.parametrize("prior", [USUAL, None])
@pytest.mark.parametrize("wild", [[0.9, 1.1], [0.99, 1.01, 1.0], [0.0, 5.0]])
def test_one_wild_candidate_moves_the_noise_by_less_than_30_percent(
    wild: list[float], prior: Noise | None
) -> None:
    calm = [[1.0, 1.0012], [0.99, 0.9913], [0.98, 0.9813], [0.97, 0.9714], [0.96, 0.9615]]
    before, after = pooled(calm, prior).deviation, pooled([*calm, wild], prior).deviation
    assert before <= after < 1.3 * before


def test_a_drift_between_trainings_of_an_incumbent_is_not_taken_for_noise() -> None:
    values = [1.0, 1.001, 0.993, 0.992, 1.02]
    assert near_in_time(values, 1) == [[1.0, 1.001], [0.993, 0.992], [1.02]]
    assert near_in_time(values, 3) == [[1.0, 1.001, 0.993], [0.992, 1.02]]
    assert pooled(near_in_time(values, 1), USUAL).deviation < 0.0015


def test_a_wild_candidate_is_judged_by_its_own_scatter() -> None:
    noise = Noise(0.001, 20)
    assert own_scatter([0.99, 0.95, 1.02], noise) > 0.01
    assert own_scatter([0.99, 0.991, 0.9905], noise) == own_scatter([0.99], noise) == 0.001


def test_a_metric_of_which_nothing_is_known_has_a_weaker_prior_in_its_own_unit() -> None:
    assert usual("reward", -250.0) == Noise(0.5, 2)
    assert usual("reward", 0.0) == Noise()
    assert usual("reward", -250.0).degrees < USUAL.degrees


def test_a_mean_of_more_trainings_has_a_smaller_error() -> None:
    noise = Noise(0.002, 5)
    assert noise.of_difference(1, 1) == pytest.approx(0.002 * math.sqrt(2))
    assert noise.of_difference(4, 4) < noise.of_difference(1, 4) < noise.of_difference(1, 1)

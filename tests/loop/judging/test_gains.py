"""What is believed of a measured gain."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.judging.gains import PRIOR, Kind, believe, believe_together, chance_rate, learn, likelihood

gains, errors = st.floats(-60, 60), st.floats(0.1, 3)


def by_sums(gain: float, error: float) -> tuple[float, float]:
    """Chance to help and expected gain by sums over a fine grid of true gains."""
    total = helps = mean = 0.0
    for kind in PRIOR:
        for i in range(20_000):
            true = (i + 0.5) * 0.005 * math.copysign(1, kind.mean) if kind.mean else 0.0
            density = math.exp(-true / kind.mean) / abs(kind.mean) * 0.005 if kind.mean else 1 / 20_000
            weight = kind.share * density * math.exp(-0.5 * ((gain - true) / error) ** 2)
            total, mean = total + weight, mean + weight * true
            helps += weight if true > 0 else 0
    return helps / total, mean / total


@pytest.mark.parametrize(("gain", "error"), [(0.0, 1.2), (2.0, 1.2), (5.0, 0.8), (-3.0, 1.0)])
def test_the_belief_is_bayes_theorem(gain: float, error: float) -> None:
    found = believe(gain, error)
    helps, mean = by_sums(gain, error)
    assert found.helps == pytest.approx(helps, abs=2e-3)
    assert found.gain == pytest.approx(mean, abs=1e-2)


@given(gains, errors)
def test_a_larger_gain_is_believed_more(gain: float, error: float) -> None:
    less, more = believe(gain, error), believe(gain + 0.1, error)
    assert 0 <= less.helps <= more.helps + 1e-9 <= 1 + 2e-9
    assert less.gain <= more.gain + 1e-9
    assert less.variance >= 0


@given(st.floats(-1000, 1000), errors)
def test_no_gain_is_too_large_to_compute(gain: float, error: float) -> None:
    found = believe(gain, error)
    assert all(map(math.isfinite, (found.helps, found.gain, found.variance, likelihood(gain, error, PRIOR))))


@given(gains, errors, st.lists(st.builds(believe, st.floats(0, 3), errors), min_size=1, max_size=10))
def test_a_larger_gain_of_a_combination_is_believed_more(gain: float, error: float, parts: list) -> None:  # type: ignore[type-arg]
    less, more = (believe_together(g, error, parts) for g in (gain, gain + 0.1))
    assert less.helps <= more.helps + 1e-9
    assert less.gain < more.gain
    assert more.variance < error**2


def test_promising_parts_make_a_combination_more_credible() -> None:
    good, poor = [believe(2.0, 1.2)] * 6, [believe(0.2, 1.2)] * 6
    assert believe_together(1.5, 1.2, good).helps > believe_together(1.5, 1.2, poor).helps


def test_a_run_learns_what_ideas_do() -> None:
    generator = random.Random(3)
    hopeless = tuple((-generator.expovariate(1 / 6) + generator.gauss(0, 1.2), 1.2) for _ in range(80))
    found = learn(hopeless)
    assert sum(kind.share for kind in found) == pytest.approx(1)
    assert found[3].share > 0.6
    assert found[3].mean < -4
    assert believe(2.5, 1.2, found).helps < believe(2.5, 1.2).helps
    assert chance_rate(found) < chance_rate(PRIOR)
    assert learn(()) == PRIOR


def test_kinds_of_one_sign_are_certain() -> None:
    assert believe(-3.0, 1.0, (Kind(1.0, 2.0),)).helps == 1
    assert believe(3.0, 1.0, (Kind(1.0, -2.0),)).helps == 0

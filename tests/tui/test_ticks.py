"""Round numbers for axes."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.ticks import LARGEST, ticks


@pytest.mark.parametrize(
    ("low", "high", "most", "texts"),
    [
        (0, 100, 6, "0 20 40 60 80 100"),
        (0, 100, 5, "0 50 100"),
        (1.0965, 1.1265, 4, "1.10 1.11 1.12"),
        (0.9808, 0.9974, 7, "0.985 0.990 0.995"),
        (2.2, 5.2, 8, "2.5 3.0 3.5 4.0 4.5 5.0"),
        (-3, 3, 4, "-2 0 2"),
        (-12374440, -12374430, 6, "-12374440 -12374438 -12374436 -12374434 -12374432 -12374430"),
        (0, 4e6, 5, "0 1e+06 2e+06 3e+06 4e+06"),
    ],
)
def test_they_are_round(low: float, high: float, most: int, texts: str) -> None:
    assert ticks(low, high, most)[1] == texts.split()


def test_experiments_are_counted_in_whole_numbers() -> None:
    assert ticks(1, 3, 9, least=1) == ([1, 2, 3], ["1", "2", "3"])
    assert ticks(4, 4, 9, least=1) == ([4], ["4"])
    assert ticks(1, 24, 5, least=1)[1] == ["5", "10", "15", "20"]


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 5e-324), (-1e308, 1e308), (1e300, 2e300), (2.5, 2.5000000000000004), (0.0, 0.0), (1.0, -1.0)],
)
def test_numbers_that_no_training_means_have_short_ticks_too(low: float, high: float) -> None:
    found, texts = ticks(low, high, 5)
    assert 1 <= len(found) == len(texts) <= 5
    assert max(map(len, texts)) <= 12


def test_a_range_that_fits_a_step_exactly_has_ticks() -> None:
    for cents in range(50, 600):
        low, high = cents / 100 - 0.01, cents / 100 + 0.01
        assert 1 <= len(ticks(low, high, 2)[0]) <= 2


@given(st.floats(-LARGEST, LARGEST), st.floats(1e-4, 1e6), st.integers(2, 12), st.sampled_from([0.0, 1.0]))
def test_they_are_few_different_and_within(low: float, span: float, most: int, least: float) -> None:
    found, texts = ticks(low, low + span, most, least)
    assert 1 <= len(found) == len(texts) <= most
    assert len(set(texts)) == len(texts), "each has a text of its own"
    near = 1e-6 * (abs(low) + span)
    assert all(low - near <= x <= low + span + near for x in found)
    steps = [b - a for a, b in pairwise(found)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-4) and step >= least - 1e-9 for step in steps)

"""proofs.py: which claims are to be proved, and which proofs are believed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import proofs
import pytest
from held_out import Array
from proofs import (
    EXACT,
    LEAST,
    NOWHERE,
    WORST,
    Places,
    draw,
    draw_more,
    enough,
    examine,
    gains,
    log_probabilities,
    objection,
)


class Run(NamedTuple):
    """What an honest model claims, and what its incumbent claimed, in the sizes of the CPU profile."""

    claims: Array
    reference: Array
    tokens: Array
    counted: Array


def run(chance: np.random.Generator) -> Run:
    """Two models whose losses differ as those of two trainings of nanogpt/train.py do.

    Measured on 77,056 tokens: the mean loss is 3.05 nats, the mean gain of the better token 0.11, its mean
    square 0.055.
    """
    shape = (301, 256)
    reference = -chance.gamma(1.2, 2.5, shape)
    claims = np.minimum(-1e-4, reference + chance.standard_t(4, shape) * 0.2)
    return Run(claims, reference, chance.integers(1, 4096, shape), chance.random(shape) > 0.002)


def found(claims: Array, proved: Array, at: Run, chance: np.random.Generator) -> str:
    """The objection to claims, where the witness would prove `proved`."""
    gain = gains(claims, at.reference, at.tokens, at.counted)
    places, better = examine(
        gain, at.counted, True, chance, lambda p: np.asarray((claims - proved)[p.rows, p.columns])
    )
    return objection(better, places.uniform)


# --- which ---


def test_a_gain_is_what_a_claim_has_over_the_reference() -> None:
    claims, reference = np.array([[-1.0, -2.0, -0.5]]), np.array([[-3.0, -1.0, -2.5]])
    counted = np.array([[True, True, False]])
    assert gains(claims, reference, np.zeros((1, 3), int), counted).tolist() == [[2.0, 0.0, 0.0]]


def test_without_a_reference_rare_tokens_count_more() -> None:
    tokens = np.array([[1, 1, 1, 2]])
    found = gains(np.full((1, 4), -0.1), None, tokens, np.ones((1, 4), bool))
    assert found[0].tolist() == pytest.approx([math.log(4 / 3) - 0.1] * 3 + [math.log(4) - 0.1], abs=1e-6)


def test_places_are_of_different_rows_and_counted() -> None:
    chance = np.random.default_rng(1)
    one = run(chance)
    gain = gains(one.claims, one.reference, one.tokens, one.counted)
    places = draw(gain, one.counted, True, chance)
    assert len(places.rows) == len(set(places.rows.tolist())) == LEAST
    assert one.counted[places.rows, places.columns].all()
    assert places.uniform.sum() == 24
    assert (gain[places.rows, places.columns] > 0)[~places.uniform].all()
    assert len(draw(gain, one.counted, False, chance).rows) == 4 * LEAST
    assert len(draw(gain[:20], one.counted[:20], True, chance).rows) <= 20


def test_more_places_are_of_other_rows_and_go_forward() -> None:
    chance = np.random.default_rng(1)
    one = run(chance)
    first = draw_more(one.counted, 100, NOWHERE, chance)
    assert len(first.rows) == len(set(first.rows.tolist())) == 100
    more = draw_more(one.counted, 1000, first, chance)
    assert len(more.rows) >= 1000
    assert more.uniform.all()
    assert len(set(more.rows.tolist())) == 101  # half of those that are left
    assert not set(more.rows.tolist()) & set(first.rows.tolist())
    for row in set(more.rows.tolist()):
        assert (np.diff(more.columns[more.rows == row]) >= 0).all()
    everything = Places(np.arange(301), np.zeros(301, int), np.ones(301, bool))
    assert len(draw_more(one.counted, 5, everything, chance).rows) == 0


def test_rows_and_columns_are_drawn_in_proportion_to_their_weight() -> None:
    chance = np.random.default_rng(2)
    weight = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
    counts = np.zeros_like(weight)
    for _ in range(4000):
        places = proofs._draw(weight, 1, NOWHERE, chance)
        counts[places.rows, places.columns] += 1
    assert counts / 4000 == pytest.approx(weight / 8, abs=0.03)


def test_log_probabilities_sum_to_one_whatever_the_logits() -> None:
    logits = np.array([[0, 1, 2], [1e30, 0, -1e30], [5e4, 5e4, -np.inf]], np.float32)
    for token in range(3):
        exact = [math.exp(token) / (1 + math.e + math.e**2), float(token == 0), 0.5 * (token < 2)]
        assert np.exp(log_probabilities(logits, np.full(3, token))) == pytest.approx(exact)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_distribution_give_nan(bad: float) -> None:
    logits = np.array([[0, 1, bad], [-np.inf] * 3], np.float32)
    assert np.isnan(log_probabilities(logits, np.array([0, 1]))).all()


# --- who is believed ---


def rounded(kind: str, one: Run, chance: np.random.Generator) -> Array:
    """Differences between claims and proofs of an honest model, as they were measured."""
    shape = one.claims.shape
    found: Array
    if kind == "float32":
        found = np.asarray(chance.normal(0, 5e-7, shape))
    elif kind == "bf16 everywhere":
        found = np.clip(chance.normal(0, 0.005, shape), -0.24, 0.24)
    else:  # shallow models mostly give the same again, and seldom something else: a logit rounded otherwise
        found = np.where(chance.random(shape) < 0.03, chance.choice([-0.0625, 0.0625, 0.01, -0.01], shape), 0)
    return found


@pytest.mark.parametrize("kind", ["float32", "bf16 everywhere", "bf16 here and there"])
def test_honest_models_are_believed(kind: str) -> None:
    chance = np.random.default_rng(3)
    one = run(chance)
    for _ in range(200):  # benchmarks/evaluation.py does a thousand
        assert found(one.claims, one.claims - rounded(kind, one, chance), one, chance) == ""


def test_what_is_exact_needs_no_more_proofs_than_the_first() -> None:
    uniform = np.arange(64) < 24
    assert enough(np.full(64, EXACT / 2), uniform) == 0
    assert enough(np.where(np.arange(64) == 50, -2 * EXACT, 0.0), uniform) == proofs.ENOUGH
    coarse = np.where(np.arange(64) % 2, 0.03, -0.03)
    assert enough(coarse, uniform) == pytest.approx((proofs.SIGMAS * 0.03 / proofs.BIAS) ** 2, abs=1)
    assert enough(coarse * 3, uniform) == 0  # too coarse: no number of proofs would do
    assert enough(coarse * 30, uniform) == 0  # refused already


@pytest.mark.parametrize("share", [0.01, 0.002])
def test_a_model_that_peeks_here_and_there_is_caught_in_99_of_100_tries(share: float) -> None:
    caught = 0
    for seed in range(100):
        chance = np.random.default_rng(seed)
        one = run(chance)
        claims = np.where(chance.random(one.claims.shape) < share, -1e-4, one.claims)
        caught += found(claims, one.claims, one, chance) != ""
    assert caught >= 99


CHEATS: dict[str, Callable[[Array, np.random.Generator, Array], tuple[Array, Array]]] = {
    "many small lies": lambda c, n, p: (c + 0.01, p),
    "very many tiny lies": lambda c, n, p: (c + 5e-5, p),
    "worse mostly, much better seldom": lambda c, n, p: (
        np.where(n.random(c.shape) < 0.02, -1e-4, c - 0.01), p),
    "half a nat wherever it is hard": lambda c, n, p: (np.where(c < -4, c + 0.5, c), p),
    "lies in the shelter of noise": lambda c, n, p: (c + 0.005, p + n.normal(0, 0.005, c.shape)),
    "much noise": lambda c, n, p: (
        c + 0.002, p + np.clip(n.normal(0, 0.05, c.shape), -0.2, 0.2)
    ),
    "claims that sum to more than one": lambda c, n, p: (np.minimum(c + 1, -1e-6), p),
    "a random answer": lambda c, n, p: (c, p + n.normal(0, 1, c.shape)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_refused(name: str) -> None:
    for seed in range(20):
        chance = np.random.default_rng(seed)
        one = run(chance)
        claims, proved = CHEATS[name](one.claims, chance, one.claims)
        assert found(claims, proved, one, chance) != ""


def test_each_reason_has_its_sentence() -> None:
    many = np.ones(64, bool)
    nothing = np.zeros(64)
    assert objection(nothing, many) == ""
    one = np.where(np.arange(64) == 7, 3.0, 0.0)
    assert "gets up to 3 nats worse when it cannot see that token" in objection(one, many)
    assert "change by up to 3 nats when it is asked again" in objection(-one, many)
    assert "get 0.0001 nats worse on average" in objection(nothing + EXACT, many)
    coarse = np.where(np.arange(64) % 2, 0.03, -0.03)
    assert "compute logits in float32" in objection(coarse, many)  # with so few proofs
    assert "worse on average" in objection(np.full(64, WORST), many)


def test_places_can_be_put_together_and_apart() -> None:
    one = Places(np.array([3]), np.array([4]), np.array([True]))
    both = one.plus(Places(np.array([5]), np.array([6]), np.array([False])))
    assert both.some(slice(1, 2)).rows.tolist() == [5]
    assert both.uniform.tolist() == [True, False]

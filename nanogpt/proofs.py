"""Which claims of a model have to be proved, and what the proofs say of it. Pure: numbers in, words out.

A claim is the log-probability that the claimant gives to a token; it has seen the whole row. Its proof is the
log-probability that the witness gives to the same token without having seen it. An honest model's two numbers
differ by rounding alone. One that looks ahead, remembers rows, learns while it is asked, or claims what does
not sum to one cannot prove its claims. docs/verdicts.md says what of that is found, and how surely.

Shapes: R rows, T tokens a row, V tokens of vocabulary, n places that are to be proved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from held_out import Array

LEAST, SHARE = 64, 0.1
"""At least so many claims are to be proved, and one in so many rows: a tenth."""
UNIFORM, LINEAR = 3 / 8, 1 / 4
"""Shares of the places that are drawn uniformly, and in proportion to the gain over the reference. The rest
is drawn in proportion to the gain's square, which is where a lie of several nats shows most."""
WITHOUT_REFERENCE = 4
"""Where there is no reference, gains say little, and so many times as many claims are to be proved."""

EXACT = 1e-4
"""Nats by which claim and proof may differ in float32; measured: 3e-6."""
WORST = 0.25
"""Nats by which a claim may be better than its proof in any place. Models that compute in bf16, with other
kernels for claims than for proofs, measured 0.06; bf16 rounds a logit of 16 to 32 by up to 0.06."""
BIAS = 0.002
"""Nats a token by which claims may be better than their proofs on average, where rounding explains it."""
LEAST_BIAS = 1e-5
"""The same for a model that does not round. Measured: 1e-7."""
SIGMAS = 5.0
"""Standard errors that rounding explains: chance exceeds them once in three million evaluations."""
AGREE = "; a model's `log_probabilities`, if it has some, must be those of its logits"
"""What an objection ends with: the second reason why an honest model cannot prove what it claims."""
ENOUGH, MOST = 256, 8192
"""Claims to be proved, at least and at most, where claims and proofs are not exactly the same."""


class Places(NamedTuple):
    """Tokens whose log-probabilities are to be proved, in this order.

    Of two in one row, the later one comes later: so no witness has been shown a token that it is asked for.
    """

    rows: Array  # (n,)
    columns: Array  # (n,)
    uniform: Array  # (n,) whether it was drawn uniformly, so that a mean over these is that over all tokens

    def plus(self, other: Places) -> Places:
        """Return these places and others."""
        return Places(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))

    def some(self, which: Array | slice) -> Places:
        """Return those that an index names."""
        return Places(*(part[which] for part in self))


NOWHERE = Places(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool))


def gains(claims: Array, reference: Array | None, tokens: Array, counted: Array) -> Array:
    """Return by how much each claim (R, T) is better than the reference's, in nats; 0 where it is not.

    Without a reference, it is compared with how frequent the token is in `tokens` (R, T).
    """
    if reference is None:
        counts = np.bincount(tokens[counted], minlength=int(tokens.max()) + 1)
        reference = np.log(np.maximum(counts, 1) / max(1, counts.sum())).astype(np.float32)[tokens]
    return np.where(counted, np.maximum(claims - reference, 0), 0)


def examine(
    gain: Array,
    counted: Array,
    has_reference: bool,
    chance: np.random.Generator,
    prove: Callable[[Places], Array],
) -> tuple[Places, Array]:
    """Let as many claims be proved as are needed; return their places, and claims minus proofs (n,).

    `gain` (R, T) comes from `gains`, `counted` (R, T) says which tokens count. `prove` gets places and
    returns claims minus proofs there. More have to be proved of a model that rounds.
    """
    places = draw(gain, counted, has_reference, chance)
    better = prove(places)
    while (missing := enough(better, places.uniform) - int(places.uniform.sum())) > 0:
        more = draw_more(counted, missing, places, chance)
        if not len(more.rows):
            break
        places, better = places.plus(more), np.concatenate([better, prove(more)])
    return places, better


def draw(gain: Array, counted: Array, has_reference: bool, chance: np.random.Generator) -> Places:
    """Draw the places that are to be proved first, one a row, in random order."""
    rows = len(gain)
    count = max(LEAST, int(SHARE * rows)) * (1 if has_reference else WITHOUT_REFERENCE)
    count = min(count, rows)
    places = _draw(counted, math.ceil(UNIFORM * count), NOWHERE, chance, uniform=True)
    for weight, share in ((gain, LINEAR), (np.square(gain), 1 - UNIFORM - LINEAR)):
        places = places.plus(_draw(weight, round(share * count), places, chance))
    rest = count - len(places.rows)  # where few claims are better than the reference's
    places = places.plus(_draw(counted, rest, places, chance, uniform=True))
    return places.some(chance.permutation(len(places.rows)))


def draw_more(counted: Array, count: int, taken: Places, chance: np.random.Generator) -> Places:
    """Draw at least `count` more places uniformly from the counted tokens (R, T) of rows that are not taken.

    It takes half of those rows at most, and several places of each if need be: so there are other rows if
    still more is needed. Returns none when all rows are taken.
    """
    rows = min(count, math.ceil((len(counted) - len(set(taken.rows.tolist()))) / 2))
    return _draw(counted, rows, taken, chance, uniform=True, each=math.ceil(count / max(1, rows)))


def _draw(
    weight: Array,
    count: int,
    taken: Places,
    chance: np.random.Generator,
    *,
    uniform: bool = False,
    each: int = 1,
) -> Places:
    """Draw `count` rows, or as many as there are, and `each` places in each, in proportion to weight (R, T).

    `uniform` says that the weights are uniform.
    """
    totals = weight.sum(1, dtype=np.float64)
    totals[taken.rows] = 0
    rows = np.flatnonzero(totals)
    # A race: the clock of a row with twice the weight runs twice as fast; the first ones are drawn.
    rows = rows[np.argsort(chance.exponential(size=len(rows)) / totals[rows])[:count]]
    sums = np.cumsum(weight[rows], 1, dtype=np.float64)
    drawn = np.sort(chance.random((len(rows), each)) * sums[:, -1:], 1)
    columns = [(sums <= drawn[:, i : i + 1]).sum(1) for i in range(each)]
    return Places(np.tile(rows, each), np.concatenate(columns), np.full(len(rows) * each, uniform))


def log_probabilities(logits: Array, tokens: Array) -> Array:
    """Return the log-probability (n,) of each token (n,) under logits (n, V), computed in float64.

    It is nan where the logits are no distribution: nan, infinity, or minus infinity for every token.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        shifted = logits.astype(np.float64)
        shifted -= shifted.max(1, keepdims=True)
        chosen = shifted[np.arange(len(tokens)), tokens]
        return np.asarray(chosen - np.log(np.exp(shifted).sum(1)))


def enough(better: Array, uniform: Array) -> int:
    """Return how many claims, drawn uniformly, must be proved to see a bias of `BIAS`; 0: there is no need.

    `better` (n,) holds claims minus proofs, `uniform` (n,) which of the places were drawn uniformly.
    """
    if not EXACT < np.abs(better).max() <= WORST:
        return 0
    needed = math.ceil((SIGMAS * float(better[uniform].std()) / BIAS) ** 2)
    return max(ENOUGH, needed) if needed <= MOST else 0


def objection(better: Array, uniform: Array) -> str:
    """Return in a sentence why the claims are not believed; empty if they are. Arguments as in `enough`."""
    most, least = float(better.max()), float(better.min())
    if least < -WORST:
        return (
            f"the model's answers change by up to {max(most, -least):.2g} nats when it is asked again: "
            f"a row's answers may depend neither on other rows, nor on earlier calls, nor on chance{AGREE}"
        )
    if most > WORST:
        return (
            f"the model's prediction of a token gets up to {most:.2g} nats worse when it cannot see that "
            "token and those after it: it may depend on nothing but the earlier tokens of the same row"
            f"{AGREE}"
        )
    drawn = better[uniform]
    bias, explained = float(drawn.mean()), SIGMAS * float(drawn.std()) / math.sqrt(len(drawn))
    if explained > BIAS:
        return (
            f"the model's answers change by {drawn.std():.2g} nats when it is asked again, too much to check "
            "them: compute logits in float32, and from the earlier tokens of the same row alone"
        )
    if bias > max(LEAST_BIAS, explained):
        return (
            f"the model's predictions get {bias:.2g} nats worse on average when it cannot see a token and "
            f"those after it: they may depend on nothing but the earlier tokens of the same row{AGREE}"
        )
    return ""

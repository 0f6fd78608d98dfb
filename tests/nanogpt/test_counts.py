"""counts.py: what it finds is what counting by hand finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from counts import Counts, Found, folds
from torch import Tensor

V, BOS, DISCOUNT = 11, 0, 0.5


def counted(order: int = 4, copy: int = 3, seed: int = 0) -> tuple[Counts, np.ndarray, np.ndarray, Tensor]:
    stream = np.random.default_rng(seed).integers(0, V, 3000).astype(np.uint16)
    fold = folds(stream, BOS, 3, seed)
    counts = Counts(V, BOS, order, 3, DISCOUNT, copy)
    return counts, stream, fold, counts.count(stream, fold, torch.device("cpu"))


def by_hand(stream: np.ndarray, use: np.ndarray, context: list[int]) -> dict[int, int]:
    """How often each token follows a context, where the token's fold is one that is used."""
    n, found = len(context), dict[int, int]()
    for i in range(n, len(stream)):
        if use[i] and list(stream[i - n : i]) == context:
            found[int(stream[i])] = found.get(int(stream[i]), 0) + 1
    return found


def candidates(found: Found, position: int, sources: range) -> dict[int, float]:
    mine = (found.position == position) & (found.source >= sources.start) & (found.source < sources.stop)
    return dict(zip(found.token[mine].tolist(), found.value[mine].exp().tolist(), strict=True))


@pytest.mark.parametrize("held", [0, 2, None])
def test_candidates_are_those_of_all_text_but_the_own_fold(held: int | None) -> None:
    counts, stream, fold, _ = counted()
    tokens = torch.tensor([[BOS, 5, 7, 3, 9, 1]])
    found = counts.look(tokens, None if held is None else torch.full_like(tokens, held))
    use = np.ones(len(stream), bool) if held is None else fold != held
    for position in range(2, 6):
        for order in (3, 4):
            context = tokens[0, position - order + 2 : position + 1].tolist()
            expected = {} if BOS in context or len(context) < order - 1 else by_hand(stream, use, context)
            total = sum(expected.values())
            seen = candidates(found, position, range(3 * (order - 3), 3 * (order - 2)))
            assert seen == pytest.approx({t: (c - DISCOUNT) / total for t, c in expected.items()})


def test_bigrams_are_distributions_with_all_tokens_possible() -> None:
    _, _, _, table = counted()
    shares = table.float().exp()
    assert table.shape == (4 * V, V)
    assert (shares > 0).all()
    assert torch.allclose(shares.sum(1), torch.ones(4 * V), atol=5e-3)


def test_merged_folds_give_what_all_folds_gave_and_take_less_room() -> None:
    counts, _, _, table = counted()
    tokens = torch.tensor([[BOS, 5, 7, 3, 9, 1], [BOS, 2, 2, 2, 4, 8]])
    before = counts.look(tokens, None)
    bases = table[before.rows]
    merged = counts.merge_folds(table)
    after = counts.look(tokens, None)
    assert all(torch.equal(x, y) for x, y in zip(before[1:], after[1:], strict=True))
    assert torch.equal(merged[after.rows], bases)
    assert merged.untyped_storage().nbytes() == table.untyped_storage().nbytes() / 4


def test_nothing_is_merged_before_counting() -> None:
    counts, table = Counts(V, BOS, 4, 3, DISCOUNT, 0), torch.zeros(1, V)
    assert counts.merge_folds(table) is table
    assert counts.look(torch.tensor([[BOS, 4]]), None).rows.tolist() == [0, 0]


def test_copies_name_what_followed_the_same_tokens() -> None:
    counts = Counts(V, BOS, 4, 3, DISCOUNT, 3)
    found = counts.look(torch.tensor([[BOS, 4, 5, 6, 4, 5]]), None)
    seen = sorted(zip(found.position.tolist(), found.token.tolist(), found.source.tolist(), strict=True))
    assert seen == [(4, 5, 6), (5, 6, 7)]  # 4 was followed by 5; 4 5, one longer, by 6


def test_a_stream_that_is_too_long_for_its_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="COUNT_ORDER"):
        Counts(8192, BOS, 5, 8, DISCOUNT, 1)


def test_without_copies_and_before_counting_there_is_nothing_to_say() -> None:
    found = Counts(V, BOS, 4, 3, DISCOUNT, 0).look(torch.tensor([[BOS, 4, 5, 4, 4]]), None)
    assert len(found.position) == 0
    assert found.features.shape == (5, 6)


def test_a_document_belongs_to_one_fold_and_the_seed_decides() -> None:
    stream = np.array([BOS, 3, 4, BOS, 5, BOS, 6, 7, 8] * 20)
    fold = folds(stream, BOS, 5, 1)
    for document in np.split(fold, np.flatnonzero(stream == BOS)):
        assert len(set(document.tolist())) <= 1
    assert set(fold.tolist()) == set(range(5))
    assert np.array_equal(fold, folds(stream, BOS, 5, 1))
    assert not np.array_equal(fold, folds(stream, BOS, 5, 2))

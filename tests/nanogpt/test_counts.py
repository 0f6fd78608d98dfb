"""counts.py: what it finds is what counting by hand finds."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from counts import Counts, folds, repeats
from torch import Tensor

V, BOS, DISCOUNT = 11, 0, 0.5
ROWS = torch.tensor([[BOS, 5, 7, 3, 9, 5, 7, 3], [BOS, 2, 2, BOS, 4, 2, 2, 2]])


def counted(
    order: int = 4, copy: int = 3, seed: int = 0, least: int = 1
) -> tuple[Counts, np.ndarray, np.ndarray, Tensor]:
    stream = torch.from_numpy(np.random.default_rng(seed).integers(0, V, 3000))
    fold = folds(stream, BOS, 3, seed)
    counts = Counts(V, BOS, order, 3, DISCOUNT, copy, least)
    bigrams = counts.count(stream, fold)
    return counts, stream.numpy(), fold.numpy(), bigrams


def by_hand(stream: np.ndarray, use: np.ndarray, context: list[int]) -> dict[int, int]:
    """How often each token follows a context, where the token's fold is one that is used."""
    n, found = len(context), dict[int, int]()
    for i in range(n, len(stream)):
        if use[i] and list(stream[i - n : i]) == context:
            found[int(stream[i])] = found.get(int(stream[i]), 0) + 1
    return found


def test_bigrams_are_distributions_with_all_tokens_possible() -> None:
    _, _, _, table = counted()
    shares = table.float().exp()
    assert table.shape == (4 * V, V)
    assert (shares > 0).all()
    assert torch.allclose(shares.sum(1), torch.ones(4 * V), atol=5e-3)


def test_merged_folds_give_what_all_folds_gave_and_take_less_room() -> None:
    counts, _, _, table = counted()
    targets = torch.roll(ROWS, -1, 1)
    before = counts.shares(table, ROWS, targets, None)
    merged = counts.merge_folds(table)
    after = counts.shares(merged, ROWS, targets, None)
    assert torch.equal(before.share, after.share)
    assert torch.equal(before.features, after.features)
    assert torch.allclose(before.mass, after.mass, atol=1e-2)  # that of the bigrams is exact now, not 1
    assert merged.untyped_storage().nbytes() == table.untyped_storage().nbytes() / 4


def as_an_older_version_saved_it(counts: Counts) -> Counts:
    """Merged counts as they were before they knew what bigrams sum to, and had places in 64 bits, loaded."""
    older = copy.copy(counts)
    older.tables = [
        (contexts, first.long(), width.long(), *rest) for contexts, first, width, *rest in counts.tables
    ]
    older.sums = [(size.clone(), kinds.clone()) for size, kinds in counts.sums]
    del older.rounded
    file = io.BytesIO()
    torch.save(older, file)
    file.seek(0)
    loaded: Counts = torch.load(file, weights_only=False)
    assert "rounded" not in vars(loaded)
    return loaded


def test_counts_that_an_older_version_saved_say_what_they_said() -> None:
    counts, _, _, table = counted()
    bigrams = counts.merge_folds(table)
    older = as_an_older_version_saved_it(counts)
    weight = torch.rand(16, 1 + 2 + 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(older.spread(bigrams, ROWS, weight), counts.spread(bigrams, ROWS, weight))
    for target in range(V):
        targets = torch.full_like(ROWS, target)
        said, now = (c.shares(bigrams, ROWS, targets, None) for c in (older, counts))
        assert torch.equal(said.share, now.share)
        assert torch.equal(said.features, now.features)
        assert torch.equal(said.mass[:, 1:], now.mass[:, 1:])
        assert torch.equal(said.mass[:, 0], torch.ones(16))


def test_nothing_is_merged_before_counting() -> None:
    counts, table = Counts(V, BOS, 4, 3, DISCOUNT, 0), torch.zeros(1, V)
    assert counts.merge_folds(table) is table


def test_a_stream_that_is_too_long_for_its_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="COUNT_ORDER"):
        Counts(8192, BOS, 5, 8, DISCOUNT, 1)


def test_a_document_belongs_to_one_fold_and_the_seed_decides() -> None:
    stream = torch.tensor([BOS, 3, 4, BOS, 5, BOS, 6, 7, 8] * 20)
    fold = folds(stream, BOS, 5, 1)
    for document in np.split(fold.numpy(), np.flatnonzero(stream.numpy() == BOS)):
        assert len(set(document.tolist())) <= 1
    assert set(fold.tolist()) == set(range(5))
    assert torch.equal(fold, folds(stream, BOS, 5, 1))
    assert not torch.equal(fold, folds(stream, BOS, 5, 2))


@pytest.mark.parametrize("least", [1, 4])
@pytest.mark.parametrize("held", [0, 2, None])
def test_shares_are_what_counting_by_hand_says_of_the_target(held: int | None, least: int) -> None:
    counts, stream, fold, bigrams = counted(least=least)
    use = np.ones(len(stream), bool) if held is None else fold != held
    where = None if held is None else torch.full_like(ROWS, held)
    for target in range(V):
        found = counts.shares(bigrams, ROWS, torch.full_like(ROWS, target), where)
        for i, order in enumerate((3, 4), 1):
            for n, row in enumerate(ROWS.tolist()):
                for t in range(8):
                    context = row[max(0, t - order + 2) : t + 1]
                    known = len(context) == order - 1 and BOS not in context
                    expected = by_hand(stream, use, context) if known else {}
                    total = sum(expected.values())
                    if total < least:
                        expected, total = {}, 0
                    share = max(0, expected.get(target, 0) - DISCOUNT) / max(total, 1)
                    mass = 1 - DISCOUNT * len(expected) / total if total else 0
                    assert float(found.share[8 * n + t, i]) == pytest.approx(share)
                    assert float(found.mass[8 * n + t, i]) == pytest.approx(mass)
    assert torch.allclose(found.mass[:, 0], torch.ones(16))


@pytest.mark.parametrize("kept", ["folds", "merged", "older"])
def test_what_is_spread_over_all_tokens_is_what_each_target_is_told(kept: str) -> None:
    counts, _, _, bigrams = counted()
    if kept != "folds":
        bigrams = counts.merge_folds(bigrams)
    if kept == "older":
        counts = as_an_older_version_saved_it(counts)
    weight = torch.rand(16, 1 + 2 + 3, generator=torch.Generator().manual_seed(0))
    total = counts.spread(bigrams, ROWS, weight)
    masses = torch.zeros(16)
    for target in range(V):
        targets = torch.full_like(ROWS, target)
        found = counts.shares(bigrams, ROWS, targets, None)
        many, hits = (part.flatten(0, 1) for part in repeats(ROWS, targets, BOS, 3))
        share = torch.cat((found.share, hits / many.clamp_min(1)), 1)
        assert torch.allclose(total[:, target], (weight * share).sum(1), atol=1e-5)
        masses = (weight * torch.cat((found.mass, (many > 0).float()), 1)).sum(1)
    # The table of bigrams is in float16; what its rows sum to is known once there are no folds.
    assert torch.allclose(total.sum(1), masses, atol=1e-5 if kept == "merged" else 2e-2)


def test_repeats_stay_in_the_document_and_name_what_followed() -> None:
    targets = torch.roll(ROWS, -1, 1)
    many, hits = repeats(ROWS, targets, BOS, 3)
    # In the first row, 5 7 3 comes again: at its second 7, one place has the same token, and the same two.
    assert many[0, 6].tolist() == [1, 1, 0]
    assert hits[0, 6].tolist() == [1, 1, 0]
    assert many[0, 7].tolist() == [1, 1, 1]
    # In the second row the first two 2 belong to another document than the last three.
    assert many[1, 2].tolist() == [1, 0, 0]
    assert many[1, 5].tolist() == [0, 0, 0]
    assert many[1, 7].tolist() == [2, 1, 0]
    assert hits[1, 6].tolist() == [1, 0, 0]


def test_before_counting_shares_are_nothing_and_have_the_same_shapes() -> None:
    counts, _, _, bigrams = counted()
    before = Counts(V, BOS, 4, 3, DISCOUNT, 3).shares(bigrams, ROWS, ROWS, None)
    for empty, full in zip(before, counts.shares(bigrams, ROWS, ROWS, None), strict=True):
        assert empty.shape == full.shape
        assert not empty.any()

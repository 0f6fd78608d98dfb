"""Counted n-grams: what the model in train.py looks up before it thinks. No learned part is in here.

Agents may read this file and never change it; order, folds and discount are set in train.py, and so is what
becomes of the numbers. Shapes: B rows, T tokens, N = B * T positions, E candidates, V tokens of vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Found(NamedTuple):
    """What is known about each of N positions: E candidates for the next token, and how sure to be."""

    rows: Tensor  # (N,) which row of the bigram table is the position's base
    position: Tensor  # (E,) whose candidate
    token: Tensor  # (E,) the candidate
    source: Tensor  # (E,) where it comes from: order and count, or length of a copied match
    value: Tensor  # (E,) log of its share among the source's candidates
    features: Tensor  # (N, 3 * orders) how much each order has seen


class Counts:
    """n-grams of a token stream in sorted tables, one for each order from 3 on, and a dense bigram table.

    Text that was counted looks more predictable than new text. So the stream is cut into folds, document by
    document, and a training row is looked up in the counts of all folds but its own, as if it were new.
    """

    def __init__(self, vocab_size: int, bos: int, order: int, folds: int, discount: float, copy: int) -> None:
        self.vocab_size, self.bos, self.order, self.folds = vocab_size, bos, order, folds
        self.discount, self.copy = discount, copy
        self.orders = order - 2
        self.sources = 3 * self.orders + copy
        self.tables: list[tuple[Tensor, ...]] = []
        if folds * vocab_size**order > 2**63:
            raise ValueError(f"COUNT_ORDER {order} is too long for a vocabulary of {vocab_size}")

    def count(self, stream: Any, fold: Any, device: torch.device) -> Tensor:
        """Count all n-grams of a token stream, each fold apart; the bigram table (`_base`)."""
        V, F_ = self.vocab_size, self.folds
        key = tokens = stream.astype(np.int64)
        self.tables = []
        for order in range(2, self.order + 1):
            key = key[:-1] * V + tokens[order - 1 :]
            keys, counts = _unique(key * F_ + fold[order - 1 :])
            grams, starts = _firsts(keys // F_)
            by_fold = np.zeros((len(grams), F_), np.int16)
            group = np.repeat(np.arange(len(grams)), np.diff(starts, append=len(keys)))
            by_fold[group, keys % F_] = np.minimum(counts, 32767)
            if order == 2:
                bigrams, bigram_counts = grams, by_fold
                continue
            if order == 3:
                base = self._base(bigrams, bigram_counts, grams, by_fold)
            contexts, first = _firsts(grams // V)
            parts = (
                contexts, first, np.diff(first, append=len(grams)), (grams % V).astype(np.int32), by_fold
            )  # fmt: skip
            self.tables.append(tuple(torch.from_numpy(part).to(device) for part in parts))
        return torch.from_numpy(base).to(device)

    def _base(self, bigrams: Any, counts: Any, trigrams: Any, trigram_counts: Any) -> Any:
        """Log-probabilities of the next token, (folds + 1) * V rows of V: without each fold, then of all."""
        V, F_ = self.vocab_size, self.folds
        table = np.empty((F_ + 1, V, V), np.float16)
        total, total3 = counts.sum(1, dtype=np.int64), trigram_counts.sum(1, dtype=np.int64)
        for f in range(F_ + 1):
            held, held3 = (counts[:, f], trigram_counts[:, f]) if f < F_ else (0, 0)
            # Kneser-Ney: a bigram counts as often as there are different tokens before it, a token likewise.
            pairs = np.bincount(trigrams[total3 > held3] % (V * V), minlength=V * V)
            seen = pairs.astype(np.float32).reshape(V, V)
            unigram = np.bincount(bigrams[total > held] % V, minlength=V).astype(np.float32) + 0.5
            unigram /= unigram.sum()
            size, kinds = seen.sum(1, keepdims=True), np.count_nonzero(seen, axis=1)[:, None]
            left = np.where(kinds, self.discount * kinds / np.maximum(size, 1), 1).astype(np.float32)
            share = np.maximum(seen - np.float32(self.discount), 0, out=seen)
            share /= np.maximum(size, 1)
            share += left * unigram
            share[self.bos] = unigram  # rows start with BOS wherever they were cut
            table[f] = np.log(share, out=share)
        return table.reshape(-1, V)

    def look(self, tokens: Tensor, fold: Tensor | None) -> Found:
        """What the counts, but for those of each position's fold, and the row itself say is next."""
        B, T = tokens.shape
        N, V, device = B * T, self.vocab_size, tokens.device
        fold = torch.full_like(tokens, self.folds) if fold is None else fold
        rows = (fold * V + tokens).flatten() if self.tables else torch.zeros_like(tokens).flatten()
        columns: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        features = [torch.zeros(N, device=device)] * (3 * self.orders - 3 * len(self.tables))
        key, known = tokens, tokens != self.bos
        for i, (contexts, first, width, token, by_fold) in enumerate(self.tables):
            past = F.pad(tokens, (i + 1, 0), value=self.bos)[:, :T]
            key, known = key + past * V ** (i + 1), known & (past != self.bos)
            wanted = key.flatten()
            place = torch.searchsorted(contexts, wanted).clamp_max_(len(contexts) - 1)
            many = width[place] * ((contexts[place] == wanted) & known.flatten())
            position = torch.arange(N, device=device).repeat_interleave(many)
            offset = torch.arange(len(position), device=device) - (many.cumsum(0) - many)[position]
            entry = first[place][position] + offset
            counts = by_fold[entry].int()
            held = counts.gather(1, fold.flatten()[position, None].clamp_max(self.folds - 1))[:, 0]
            count = counts.sum(1) - held * (fold.flatten()[position] < self.folds)
            keep = count > 0
            position, entry, count = position[keep], entry[keep], count[keep].float()
            total = torch.zeros(N, device=device).index_add_(0, position, count)
            distinct = torch.bincount(position, minlength=N)
            features += [total.log1p(), distinct.float().log1p(), (distinct == 1).float()]
            value = ((count - self.discount) / total[position]).log()
            columns.append((position, token[entry].long(), 3 * i + count.clamp_max(3).long() - 1, value))
        columns.append(self._copies(tokens))
        position, token, source, value = (torch.cat(column) for column in zip(*columns, strict=True))
        return Found(rows, position, token, source, value, torch.stack(features, 1))

    def _copies(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What followed earlier matches of the row's last tokens, told apart by the length of the match."""
        T = tokens.size(1)
        same = (tokens[:, :, None] == tokens[:, None, :]).tril_(-1)
        same[tokens == self.bos] = False
        row, now, then = same[:, :, : T - 1 if self.copy else 0].nonzero(as_tuple=True)
        matching, length = torch.ones_like(row, dtype=torch.bool), torch.zeros_like(row)
        for back in range(1, self.copy):
            matching &= then >= back
            matching &= tokens[row, (now - back).clamp_min(0)] == tokens[row, (then - back).clamp_min(0)]
            length += matching
        source = 3 * self.orders + length
        return row * T + now, tokens[row, then + 1], source, torch.zeros(len(row), device=tokens.device)


def _firsts(ordered: Any) -> tuple[Any, Any]:
    """The different values of an ordered array, and where each starts."""
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[first], first


def _unique(keys: Any) -> tuple[Any, Any]:
    keys.sort()
    values, first = _firsts(keys)
    return values, np.diff(first, append=len(keys))


def folds(stream: Any, bos: int, count: int, seed: int) -> Any:
    """Which fold each token of a stream belongs to; a document belongs to one."""
    starts = stream == bos
    drawn = np.random.default_rng(seed).integers(count, size=int(starts.sum()) + 1)
    return drawn[np.cumsum(starts)]

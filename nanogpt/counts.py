"""Counted n-grams: how often each token follows each short context in the training text.

The model in train.py looks these counts up and learns how far to trust them; nothing in here is learned.
Agents may read this file but never change it; train.py sets the longest n-gram, the number of folds and the
discount. An n-gram is n tokens in a row: its context is all but the last one.

Shapes: B rows, T tokens a row, N = B * T positions, V tokens of vocabulary, S tokens of the counted text,
F folds, G different n-grams of one length, C different contexts, E candidates for a next token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Found(NamedTuple):
    """What the counts say about the next token at each of N positions.

    A position has any number of candidates for its next token: all candidates of all positions are E.
    """

    rows: Tensor  # (N,) the row of the bigram table that holds the position's base logits
    position: Tensor  # (E,) the position that the candidate is for, 0 to N - 1
    token: Tensor  # (E,) the candidate
    source: Tensor  # (E,) where it comes from: n-gram length and count, or length of a copied match
    value: Tensor  # (E,) log of its share among candidates of that length, after the discount; 0 for copies
    features: Tensor  # (N, 3 * orders) how much the text holds about the context, for each n-gram length


class Counts:
    """Counts of all n-grams of 2 to `order` tokens in a text.

    Counted text looks more predictable than new text: each of its n-grams occurs at least once. A model that
    trained on such counts would trust them too much. So the documents are dealt into folds, and a row of
    training text is looked up in the counts of all folds but its own, as if it were new.

    `discount` is taken off each count and left for tokens that were never seen there. `copy` is the longest
    repetition within a row that is told apart from shorter ones; 0 looks for no repetitions. Raises
    `ValueError` if an n-gram of this order and its fold do not fit in an int64.
    """

    def __init__(self, vocab_size: int, bos: int, order: int, folds: int, discount: float, copy: int) -> None:
        self.vocab_size, self.bos, self.order, self.folds = vocab_size, bos, order, folds
        self.discount, self.copy = discount, copy
        self.orders = order - 2  # lengths from 3 on; bigrams are a dense table of their own
        self.sources = 3 * self.orders + copy  # three a length: seen once, twice, more often
        self.tables: list[tuple[Tensor, ...]] = []
        if folds * vocab_size**order > 2**63:
            raise ValueError(f"COUNT_ORDER {order} is too long for a vocabulary of {vocab_size}")

    def count(self, stream: Any, fold: Any, device: torch.device) -> Tensor:
        """Count all n-grams of a text, each fold for itself, and return the bigram table (see `_base`).

        stream (S,) holds the tokens, fold (S,) the fold of each (see `folds`). The counts of longer n-grams
        are kept in `tables`, on `device`.
        """
        V, F_ = self.vocab_size, self.folds
        key = tokens = stream.astype(np.int64)
        self.tables = []
        for order in range(2, self.order + 1):
            # One number for each n-gram: its tokens are the digits, in base V. Sorted, n-grams of one context
            # stand together.
            key = key[:-1] * V + tokens[order - 1 :]  # (S - order + 1,)
            keys, counts = _unique(key * F_ + fold[order - 1 :])  # the fold is one more digit
            grams, starts = _firsts(keys // F_)  # each (G,)
            by_fold = np.zeros((len(grams), F_), np.int16)  # (G, F), how often in each fold, 32767 at most
            group = np.repeat(np.arange(len(grams)), np.diff(starts, append=len(keys)))
            by_fold[group, keys % F_] = np.minimum(counts, 32767)
            if order == 2:
                bigrams, bigram_counts = grams, by_fold
                continue
            if order == 3:
                base = self._base(bigrams, bigram_counts, grams, by_fold)
            # Each context (C,), where its n-grams start (C,), how many they are (C,); the last token (G,) and
            # the counts (G, F) of each n-gram.
            contexts, first = _firsts(grams // V)
            parts = (
                contexts, first, np.diff(first, append=len(grams)), (grams % V).astype(np.int32), by_fold
            )  # fmt: skip
            self.tables.append(tuple(torch.from_numpy(part).to(device) for part in parts))
        return torch.from_numpy(base).to(device)

    def merge_folds(self, bigrams: Tensor) -> Tensor:
        """Forget the fold of each count, which only training needs; return the bigram table without folds.

        `bigrams` is the table that `count` returned. Afterwards `look` takes no fold, and finds what it found
        without one before. On a CPU a model then takes a third of the memory and of the disk.
        """
        if not self.tables:
            return bigrams
        self.folds = 0
        self.tables = [
            (*rest, by_fold.sum(1, keepdim=True, dtype=torch.int32)) for *rest, by_fold in self.tables
        ]
        return bigrams[-self.vocab_size :].clone()  # a slice alone would keep the whole table alive

    def _base(self, bigrams: Any, counts: Any, trigrams: Any, trigram_counts: Any) -> Any:
        """Return log-probabilities of the next token given the last one, ((F + 1) * V, V) in float16.

        Row f * V + t says what follows token t by the counts of all folds but f, row F * V + t by all counts.
        The counts are smoothed by interpolated Kneser-Ney (Kneser and Ney 1995), so no token is impossible.
        bigrams (G,) with counts (G, F), and trigrams with theirs, are those that `count` makes.
        """
        V, F_ = self.vocab_size, self.folds
        table = np.empty((F_ + 1, V, V), np.float16)
        total, total3 = counts.sum(1, dtype=np.int64), trigram_counts.sum(1, dtype=np.int64)
        for f in range(F_ + 1):
            held, held3 = (counts[:, f], trigram_counts[:, f]) if f < F_ else (0, 0)
            # Kneser-Ney: not how often a bigram occurs counts, but how many different tokens it follows. The
            # same holds for a single token.
            pairs = np.bincount(trigrams[total3 > held3] % (V * V), minlength=V * V)
            seen = pairs.astype(np.float32).reshape(V, V)
            unigram = np.bincount(bigrams[total > held] % V, minlength=V).astype(np.float32) + 0.5
            unigram /= unigram.sum()
            # size: how much was counted after each token; kinds: how many different tokens followed it; left:
            # the share that the discount takes off all of them, which goes to `unigram`. Each (V, 1).
            size, kinds = seen.sum(1, keepdims=True), np.count_nonzero(seen, axis=1)[:, None]
            left = np.where(kinds, self.discount * kinds / np.maximum(size, 1), 1).astype(np.float32)
            share = np.maximum(seen - np.float32(self.discount), 0, out=seen)
            share /= np.maximum(size, 1)
            share += left * unigram
            share[self.bos] = unigram  # rows start with BOS wherever they were cut
            table[f] = np.log(share, out=share)
        return table.reshape(-1, V)

    def look(self, tokens: Tensor, fold: Tensor | None) -> Found:
        """Look up what may come next at each position of some rows of tokens (B, T).

        fold (B, T) names the fold of each position, whose counts are left out; None uses the counts of all
        folds. Candidates are the tokens that followed the position's last 2 to `order` - 1 tokens in the
        counted text, and those that followed its last token earlier in the row. Before `count` has run there
        are only the latter.
        """
        B, T = tokens.shape
        N, V, device = B * T, self.vocab_size, tokens.device
        fold = torch.full_like(tokens, self.folds) if fold is None else fold
        rows = (fold * V + tokens).flatten() if self.tables else torch.zeros_like(tokens).flatten()
        columns: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        features = [torch.zeros(N, device=device)] * (3 * self.orders - 3 * len(self.tables))
        key, known = tokens, tokens != self.bos
        # `key` is the position's context as a number; `known` is False where the context contains a BOS.
        for i, (contexts, first, width, token, by_fold) in enumerate(self.tables):
            past = F.pad(tokens, (i + 1, 0), value=self.bos)[:, :T]
            key, known = key + past * V ** (i + 1), known & (past != self.bos)
            wanted = key.flatten()
            # Find the context among the counted ones, then list all of its n-grams.
            place = torch.searchsorted(contexts, wanted).clamp_max_(len(contexts) - 1)
            many = width[place] * ((contexts[place] == wanted) & known.flatten())
            position = torch.arange(N, device=device).repeat_interleave(many)
            offset = torch.arange(len(position), device=device) - (many.cumsum(0) - many)[position]
            entry = first[place][position] + offset
            # Leave out the counts of the position's own fold, and n-grams that occur nowhere else.
            counts = by_fold[entry].int()
            count = counts.sum(1)
            if self.folds:
                held = counts.gather(1, fold.flatten()[position, None].clamp_max(self.folds - 1))[:, 0]
                count -= held * (fold.flatten()[position] < self.folds)
            keep = count > 0
            position, entry, count = position[keep], entry[keep], count[keep].float()
            # Three features a position: how much was counted, how many different tokens, whether just one.
            total = torch.zeros(N, device=device).index_add_(0, position, count)
            distinct = torch.bincount(position, minlength=N)
            features += [total.log1p(), distinct.float().log1p(), (distinct == 1).float()]
            value = ((count - self.discount) / total[position]).log()
            # Candidates seen once, twice and more often are three sources, each with a weight of its own.
            columns.append((position, token[entry].long(), 3 * i + count.clamp_max(3).long() - 1, value))
        columns.append(self._copies(tokens))
        position, token, source, value = (torch.cat(column) for column in zip(*columns, strict=True))
        return Found(rows, position, token, source, value, torch.stack(features, 1))

    def _copies(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the tokens that followed earlier occurrences of each position's last token in its row.

        The four tensors are position, token, source and value of `Found`. The source is the number of last
        tokens that are the same at both places, `copy` at most. All copies have the value 0.
        """
        T = tokens.size(1)
        same = (tokens[:, :, None] == tokens[:, None, :]).tril_(-1)  # (B, T, T): now, then
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
    """Return the different values of a sorted array, and the index at which each first occurs."""
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[first], first


def _unique(keys: Any) -> tuple[Any, Any]:
    """Return the different values of an array, sorted, and how often each occurs. Sorts the array itself."""
    keys.sort()
    values, first = _firsts(keys)
    return values, np.diff(first, append=len(keys))


def folds(stream: Any, bos: int, count: int, seed: int) -> Any:
    """Deal the documents of a text into `count` folds at random and return the fold of each token, (S,).

    A document starts at each `bos`, so all tokens of a document belong to one fold.
    """
    starts = stream == bos
    drawn = np.random.default_rng(seed).integers(count, size=int(starts.sum()) + 1)
    return drawn[np.cumsum(starts)]

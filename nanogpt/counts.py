"""Counted n-grams: how often each token follows each short context in the training text.

The model in train.py looks these counts up and learns how far to trust them; nothing in here is learned.
Agents may read this file but never change it; train.py sets the longest n-gram, the number of folds and the
discount. An n-gram is n tokens in a row: its context is all but the last one.

Shapes: B rows, T tokens a row, N = B * T positions, V tokens of vocabulary, S tokens of the counted text,
F folds, G different n-grams of one length, C different contexts, E candidates for a next token, O orders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Shares(NamedTuple):
    """What the counts say about one token, the target, at each of N positions. O is the number of orders.

    Each source (bigrams, then longer n-grams) is a distribution of the next token, of which `discount` may
    have taken a part.
    """

    share: Tensor  # (N, 1 + O) what each source gives the target
    mass: Tensor  # (N, 1 + O) what it gives all tokens together; 0 where it does not know the context
    features: Tensor  # (N, 2 * O) log of how much, and of how many different tokens, followed the context


class Counts:
    """Counts of all n-grams of 2 to `order` tokens in a text.

    Counted text looks more predictable than new text: each of its n-grams occurs at least once. A model that
    trained on such counts would trust them too much. So the documents are dealt into folds, and a row of
    training text is looked up in the counts of all folds but its own, as if it were new.

    `discount` is taken off each count and left for tokens that were never seen there. `copy` is the longest
    repetition within a row that is told apart from shorter ones; 0 looks for no repetitions. Longer contexts
    than one token that occur less than `least` times are not kept, to save memory. Raises `ValueError` if an
    n-gram of this order and its fold do not fit in an int64.

    `shares` tells what the counts say of one token a position, in tensors of fixed shapes, as a compiler
    needs them; `spread` tells it of all tokens.
    """

    rounded: Tensor | None = None
    """What the rows of the bigram table, which is rounded, sum to, (V,); None until folds are merged, and in
    models that an older version has saved."""

    def __init__(
        self, vocab_size: int, bos: int, order: int, folds: int, discount: float, copy: int, least: int = 1
    ) -> None:
        self.vocab_size, self.bos, self.order, self.folds = vocab_size, bos, order, folds
        self.discount, self.copy, self.least = discount, copy, least
        self.orders = order - 2  # lengths from 3 on; bigrams are a dense table of their own
        self.tables: list[tuple[Tensor, ...]] = []
        self.sums: list[tuple[Tensor, Tensor]] = []
        if folds * vocab_size**order > 2**63:
            raise ValueError(f"COUNT_ORDER {order} is too long for a vocabulary of {vocab_size}")

    def count(self, stream: Tensor, fold: Tensor) -> Tensor:
        """Count all n-grams of a text, each fold for itself, and return the bigram table (see `_base`).

        stream (S,) holds the tokens, fold (S,) the fold of each (see `folds`), both int64. Everything happens
        on their device, and the counts of longer n-grams are kept there, in `tables`.
        """
        V, F_ = self.vocab_size, self.folds
        key = stream
        self.tables = []
        for order in range(2, self.order + 1):
            # One number for each n-gram: its tokens are the digits, in base V. Sorted, n-grams of one context
            # stand together. The fold is one more digit.
            key = key[:-1] * V + stream[order - 1 :]  # (S - order + 1,)
            keys, counts = torch.unique_consecutive(_sorted(key * F_ + fold[order - 1 :]), return_counts=True)
            grams, group = torch.unique_consecutive(keys // F_, return_inverse=True)  # grams: (G,)
            by_fold = torch.zeros(len(grams), F_, dtype=torch.int16, device=keys.device)  # (G, F)
            by_fold[group, keys % F_] = counts.clamp_max_(32767).short()  # how often in each fold
            del keys, counts, group
            if order == 2:
                bigrams, bigram_counts = grams, by_fold
                continue
            if order == 3:
                base = self._base(bigrams, bigram_counts, grams, by_fold)
            contexts, width = torch.unique_consecutive(grams // V, return_counts=True)
            width, token = width.int(), (grams % V).int()
            if self.least > 1:
                group = torch.arange(len(width), device=width.device).repeat_interleave(width)
                often = _per_context(width, group, by_fold.sum(1, dtype=torch.int32)) >= self.least
                if often.any():
                    kept = often[group]
                    contexts, width, token, by_fold = (
                        contexts[often],
                        width[often],
                        token[kept],
                        by_fold[kept],
                    )
            # Each context (C,), where its n-grams start (C,), how many they are (C,); the last token (G,) and
            # the counts (G, F) of each n-gram.
            self.tables.append((contexts, width.cumsum(0, dtype=torch.int32) - width, width, token, by_fold))
        self._sum_up()
        return base

    def merge_folds(self, bigrams: Tensor) -> Tensor:
        """Forget the fold of each count, which only training needs; return the bigram table without folds.

        `bigrams` is the table that `count` returned. Afterwards no method takes a fold; each finds what it
        found without one before, and the mass of bigrams is what a row of the table, which is rounded, sums
        to. On a CPU a model then takes a third of the memory and of the disk.
        """
        if not self.tables:
            return bigrams
        self.folds = 0
        self.tables = [
            (*rest, by_fold.sum(1, keepdim=True, dtype=torch.int32)) for *rest, by_fold in self.tables
        ]
        # Of all folds together, a context has as many different tokens as n-grams: they are on the disk once.
        self.sums = [
            (size[-1:].clone(), width[None])
            for (size, _), (_, _, width, *_) in zip(self.sums, self.tables, strict=True)
        ]
        merged = bigrams[-self.vocab_size :].clone()  # a slice alone would keep the whole table alive
        self.rounded = merged.float().exp_().sum(1)
        return merged

    def _base(self, bigrams: Tensor, counts: Tensor, trigrams: Tensor, trigram_counts: Tensor) -> Tensor:
        """Return log-probabilities of the next token given the last one, ((F + 1) * V, V) in float16.

        Row f * V + t says what follows token t by the counts of all folds but f, row F * V + t by all counts.
        The counts are smoothed by interpolated Kneser-Ney (Kneser and Ney 1995), so no token is impossible.
        bigrams (G,) with counts (G, F), and trigrams with theirs, are those that `count` makes.
        """
        V, F_ = self.vocab_size, self.folds
        table = torch.empty(F_ + 1, V, V, dtype=torch.float16, device=bigrams.device)
        before, after = bigrams // V, bigrams % V
        last = torch.searchsorted(bigrams, trigrams % (V * V))  # the bigram that each trigram ends with
        total, total3 = counts.sum(1, dtype=torch.int32), trigram_counts.sum(1, dtype=torch.int32)
        for f in range(F_ + 1):
            seen2 = total > counts[:, f] if f < F_ else total > 0
            seen3 = total3 > trigram_counts[:, f] if f < F_ else total3 > 0
            # Kneser-Ney: not how often a bigram occurs counts, but how many different tokens it follows. The
            # same holds for a single token.
            seen = torch.bincount(last[seen3], minlength=len(bigrams)).float()  # (G,)
            unigram = torch.bincount(after[seen2], minlength=V) + 0.5
            unigram /= unigram.sum()
            # size: how much was counted after each token; kinds: how many different tokens followed it; left:
            # the share that the discount takes off all of them, which goes to `unigram`. Each (V,).
            size = torch.zeros(V, device=seen.device).index_add_(0, before, seen)
            kinds = torch.bincount(before[seen > 0], minlength=V)
            left = torch.where(kinds > 0, self.discount * kinds / size.clamp_min(1), 1.0)
            share = (seen - self.discount).clamp_min_(0) / size[before].clamp_min(1)
            torch.add(left.log()[:, None], unigram.log(), out=table[f])  # bigrams that were not seen
            table[f].view(-1)[bigrams] = (share + left[before] * unigram[after]).log_().half()
            table[f, self.bos] = unigram.log()  # rows start with BOS wherever they were cut
        return table.view(-1, V)

    def _contexts(self, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Give, for each table, where the context of each position stands in it (N,), and if it does (N,)."""
        T = tokens.size(1)
        # `key` is the position's context as a number; `known` is False where the context contains a BOS.
        key, known = tokens, tokens != self.bos
        for i, (contexts, *_) in enumerate(self.tables):
            past = F.pad(tokens, (i + 1, 0), value=self.bos)[:, :T]
            key, known = key + past * self.vocab_size ** (i + 1), known & (past != self.bos)
            wanted = key.flatten()
            place = torch.searchsorted(contexts, wanted).clamp_max_(len(contexts) - 1)
            yield place, (contexts[place] == wanted) & known.flatten()

    def _sum_up(self) -> None:
        """Sum the counts of each context, for `shares`: all of them, and all but those of each fold."""
        self.sums = []
        for _, _, width, _, by_fold in self.tables:
            group = torch.arange(len(width), device=width.device).repeat_interleave(width)  # (G,)
            total = by_fold.sum(1, dtype=torch.int32)
            every, kinds = _per_context(width, group, total), width
            sizes, different = [], []
            for f in range(self.folds):
                count = by_fold[:, f].int()
                sizes.append(every - _per_context(width, group, count))
                # n-grams of which all are in this fold do not exist without it
                different.append(kinds - _per_context(width, group, (count == total).int()))
            size = torch.stack([*sizes, every])  # (F + 1, C)
            self.sums.append((size.masked_fill_(size < self.least, 0), torch.stack([*different, kinds])))

    def shares(self, bigrams: Tensor, tokens: Tensor, targets: Tensor, fold: Tensor | None) -> Shares:
        """Look up, for each position of rows of tokens (B, T), how likely the counts call its target.

        `bigrams` is the table that `count` returned, targets are (B, T). fold (B, T) names the fold of each
        position, whose counts are left out; None uses those of all folds. Before `count` has run the counts
        know nothing, but the shapes are the same.
        """
        N, device, wanted = tokens.numel(), tokens.device, targets.flatten()
        where = torch.full_like(wanted, self.folds) if fold is None else fold.flatten()
        share, mass = torch.zeros(2, N, 1 + self.orders, device=device).unbind(0)
        features = torch.zeros(N, 2 * self.orders, device=device)
        if self.tables:
            share[:, 0] = bigrams[self.rows(tokens, fold), wanted].float().exp()
            mass[:, 0] = 1 if self.rounded is None else self.rounded[tokens.flatten()]
        for i, (place, known) in enumerate(self._contexts(tokens)):
            _, first, width, token, by_fold = self.tables[i]
            size, kinds = (part[where, place] * known for part in self.sums[i])
            low, end = first[place], first[place] + width[place]
            high = end
            for _ in range(math.ceil(math.log2(self.vocab_size)) + 1):  # bisect: find the target's n-gram
                middle = low + (high - low) // 2  # a sum of both may not fit in 32 bits
                after = token[middle.clamp_max(len(token) - 1)] < wanted
                after &= low < high
                low, high = torch.where(after, middle + 1, low), torch.where(after, high, middle)
            entry = low.clamp_max(len(token) - 1)
            count = by_fold[entry].sum(1, dtype=torch.int32)
            if self.folds:
                held = by_fold[entry].gather(1, where[:, None].clamp_max(self.folds - 1))[:, 0]
                count -= held * (where < self.folds)
            count *= (low < end) & (token[entry] == wanted) & (size > 0)
            share[:, 1 + i] = (count - self.discount).clamp_min(0) / size.clamp_min(1)
            mass[:, 1 + i] = (size > 0) * (1 - self.discount * kinds / size.clamp_min(1))
            features[:, 2 * i], features[:, 2 * i + 1] = size.log1p(), (kinds * (size > 0)).log1p()
        return Shares(share, mass, features)

    def rows(self, tokens: Tensor, fold: Tensor | None) -> Tensor:
        """Return the row of the bigram table (N,) for each position of rows of tokens (B, T); see `shares`.

        Before `count` has run the table has one row, of zeros.
        """
        where = torch.full_like(tokens, self.folds) if fold is None else fold
        return ((where * self.vocab_size + tokens) * bool(self.tables)).flatten()

    def spread(self, bigrams: Tensor, tokens: Tensor, weight: Tensor) -> Tensor:
        """Return the sum of what each source says of every token, (N, V), for rows of tokens (B, T).

        weight (N, 1 + orders + copy) multiplies the sources: bigrams, longer n-grams, repetitions of 1, 2 and
        more tokens. This is `shares` and `repeats` for all targets at once. It uses the counts of all folds.
        """
        (B, T), V = tokens.shape, self.vocab_size
        where = torch.full_like(tokens, self.folds).flatten()
        if self.tables:
            total = bigrams[self.rows(tokens, None)].float().exp_().mul_(weight[:, :1])
        else:
            total = torch.zeros(B * T, V, device=tokens.device)
        for i, (place, known) in enumerate(self._contexts(tokens)):
            _, first, width, token, by_fold = self.tables[i]
            size = self.sums[i][0][where, place].float()
            width = width[place] * (known & (size > 0))
            # Row by row, because frequent contexts have thousands of n-grams, which take memory.
            for row in torch.arange(B * T, device=tokens.device).view(B, T):
                many = width[row]
                position = row.repeat_interleave(many)
                offset = torch.arange(len(position), device=tokens.device)
                offset -= (many.cumsum(0) - many).repeat_interleave(many)
                entry = first[place[position]] + offset
                count = by_fold[entry].sum(1, dtype=torch.int32)
                said = weight[position, 1 + i] * (count - self.discount) / size[position]
                total.view(-1).index_add_(0, position * V + token[entry], said)
        following = F.pad(tokens[:, 1:], (0, 1)).unsqueeze(1).expand(B, T, T)  # what came after each place
        for i, same in enumerate(_same(tokens, self.bos, self.copy), 1 + self.orders):
            each = weight[:, i].view(B, T, 1) / same.sum(2, keepdim=True).clamp_min(1)
            total.view(B, T, V).scatter_add_(2, following, same * each)
        return total


def repeats(tokens: Tensor, targets: Tensor, bos: int, longest: int) -> tuple[Tensor, Tensor]:
    """Count earlier places of a row where the same document has the same last tokens as each position.

    tokens, targets (B, T). Returns two tensors (B, T, longest): at how many places the last 1, 2, ...,
    `longest` tokens are the same, and at how many of them the next token is the position's target too.
    """
    following = F.pad(tokens[:, 1:], (0, 1))  # what came after each earlier place
    said = targets[:, :, None] == following[:, None, :]
    found = [(same.sum(2), (same & said).sum(2)) for same in _same(tokens, bos, longest)]
    if not found:
        return torch.zeros(2, *tokens.shape, 0, device=tokens.device).unbind(0)  # type: ignore[return-value]
    many, hits = zip(*found, strict=True)
    return torch.stack(many, 2).float(), torch.stack(hits, 2).float()


def _same(tokens: Tensor, bos: int, longest: int) -> Iterator[Tensor]:
    """Give, for lengths 1 to `longest`, which earlier positions (B, T, T) end with the same tokens.

    Both positions are in one document, and the tokens do not contain its BOS.
    """
    T = tokens.size(1)
    place = torch.arange(T, device=tokens.device)
    starts = tokens == bos
    document = starts.cumsum(1)
    since = place - torch.where(starts, place, 0).cummax(1).values  # tokens since BOS; 0 at a BOS
    key = document
    for length in range(1, longest + 1):
        past = F.pad(tokens, (length - 1, 0))[:, :T]
        key = (key * 0x2545F491 + past) * 0x9E3779B1  # a hash: overflow is meant
        mine = torch.where(since >= length, key, -1 - place)  # elsewhere no key equals another
        yield (mine[:, :, None] == mine[:, None, :]) & (place[:, None] > place)


def _per_context(width: Tensor, group: Tensor, values: Tensor) -> Tensor:
    """Sum values of n-grams (G,) over those of each context, (C,); group (G,) is the context of each."""
    return torch.zeros(len(width), dtype=torch.int32, device=width.device).index_add_(0, group, values)


def _sorted(keys: Tensor) -> Tensor:
    """Return the values of a tensor in ascending order. On a CPU numpy is several times as fast as torch."""
    if keys.device.type == "cpu":
        values = keys.numpy()
        values.sort()
        return keys
    return keys.sort().values


def folds(stream: Tensor, bos: int, count: int, seed: int) -> Tensor:
    """Deal the documents of a text into `count` folds at random and return the fold of each token, (S,).

    A document starts at each `bos`, so all tokens of a document belong to one fold.
    """
    document = (stream == bos).cumsum(0)
    drawn = np.random.default_rng(seed).integers(count, size=int(document[-1]) + 1)
    return torch.from_numpy(drawn).to(stream.device)[document]

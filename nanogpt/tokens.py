"""Turns text into tokens: trains the tokenizer, encodes documents, packs rows, and writes tokens to disk.

prepare.py uses it once for each data set. Agents may not change this file.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from corpus import Corpus

BOS = "<|bos|>"
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
"""Splits text into pieces; BPE merges bytes only within a piece. It is GPT-4's pattern, but with at most two
digits in a piece instead of three, because the vocabulary is small (as in karpathy/autoresearch)."""
TOKENIZER_CHARACTERS = 200_000_000
"""The tokenizer is trained on about this many characters from the start of the training text."""
Tokens = np.ndarray[Any, np.dtype[np.uint16]]
"""A piece of a token stream, of any length: (tokens,)."""


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Any:
    """Train a byte-level BPE tokenizer on the first `TOKENIZER_CHARACTERS` characters of these documents."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def beginning() -> Iterator[str]:
        left = TOKENIZER_CHARACTERS
        for text in documents:
            yield text
            left -= len(text)
            if left < 0:
                return

    tokenizer.train_from_iterator(beginning(), trainer)
    return tokenizer


def token_stream(tokenizer: Any, documents: Iterable[str], bos: int, corpus: Corpus) -> Iterator[Tokens]:
    """Give the tokens of a split piece by piece: each document after a BOS, or packed into rows (`pack`)."""
    encoded = _encode(tokenizer, documents)
    if corpus.packed:
        yield from pack(encoded, corpus.sequence, bos)
        return
    for tokens in encoded:
        yield np.array([bos], np.uint16)
        yield tokens


def _encode(tokenizer: Any, documents: Iterable[str]) -> Iterator[Tokens]:
    """Give the tokens of each document; 512 documents at a time are encoded on all cores."""
    iterator = iter(documents)
    while batch := list(itertools.islice(iterator, 512)):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            yield np.array(encoding.ids, np.uint16)


def pack(documents: Iterable[Tokens], length: int, bos: int, pool_size: int = 1000) -> Iterator[Tokens]:
    """Fill rows of `length` tokens with documents, without padding. The last, incomplete row is dropped.

    A row starts with the longest document in a pool of up to `pool_size`. Then comes, after a BOS, the
    longest that still fits, and so on; where none fits, the shortest is cropped. A document longer than a row
    is first cut into rows. A row's first document has no BOS here, because `Data` puts one before every row.
    """
    pool: list[tuple[int, int, Tokens]] = []  # length, number of the document, tokens; sorted

    def row() -> Tokens:
        """Take documents out of the pool and return a row; it is short if the pool runs empty."""
        parts = [pool.pop()[2]]
        space = length - len(parts[0])
        while space > 0:
            at = bisect.bisect_left(pool, (space, -1)) - 1  # the longest that fits: fewer than `space` tokens
            piece = pool.pop(at)[2] if at >= 0 else pool.pop(0)[2][: space - 1] if pool else None
            if piece is None:
                break
            parts += [np.array([bos], np.uint16), piece]
            space -= 1 + len(piece)
        return np.concatenate(parts)

    for number, tokens in enumerate(documents):
        for start in range(0, len(tokens), length):
            piece = tokens[start : start + length]
            bisect.insort(pool, (len(piece), number, piece), key=lambda entry: entry[:2])
        while len(pool) >= pool_size:
            yield row()
    while pool:
        last = row()
        if len(last) == length:
            yield last


def write(path: Path, pieces: Iterable[Tokens], limit: int) -> tuple[int, str]:
    """Write pieces of tokens to a .npy file, one after the other; return how many tokens, and their sha256.

    At most `limit` tokens are written; 0 writes all. No split has to fit in memory: the header, which says
    how many tokens there are, is written again at the end.
    """
    digest, count = hashlib.sha256(), 0
    with path.open("wb") as file:
        header = functools.partial(np.lib.format.write_array_header_1_0, file)
        header({"descr": "<u2", "fortran_order": False, "shape": (10**15,)})
        size = file.tell()
        for piece in pieces:
            part = piece[: limit - count] if limit else piece
            digest.update(part.tobytes())
            file.write(part.tobytes())
            count += len(part)
            if limit and count >= limit:
                break
        file.seek(0)
        header({"descr": "<u2", "fortran_order": False, "shape": (count,)})
        assert file.tell() == size, "headers of both sizes are padded to the same length"
    return count, digest.hexdigest()


def token_bytes(tokenizer: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return the number of bytes of text that each token stands for, (V,); 0 for BOS.

    In a byte-level vocabulary each character of a token's name stands for one byte. To decode the token first
    would be wrong: part of a UTF-8 character becomes a replacement character, which has three bytes.
    """
    lengths = np.zeros(tokenizer.get_vocab_size(), np.int32)
    for token, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if token == BOS else len(token)
    return lengths


def random_tokens(count: int, vocab_size: int) -> Tokens:
    """Return tokens that teach nothing, (count,): drawn at random, always the same ones."""
    return np.random.default_rng(0).integers(0, vocab_size, count).astype(np.uint16)

"""Prepared data so small that measuring a model takes milliseconds, and models to measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from held_out import HeldOut, held_out_folder
from torch import Tensor, nn

import prepare

VOCABULARY, SEQUENCE = 61, 32


def folder(
    path: Path,
    rows: int = 24,
    hidden_rows: int = 8,
    vocabulary: int = VOCABULARY,
    sequence: int = SEQUENCE,
    tokens: int = 0,
) -> Path:
    """A prepared data set of random tokens (of the first `tokens` of them only, where given).

    A third of the vocabulary is one byte longer than the rest; token 0 is BOS and counts nothing. Its
    held-out text and its stub lie where prepare.py puts them.
    """
    generator = np.random.default_rng(5)
    meta: dict[str, int | str] = {
        "format": 2, "corpus": "world", "vocab_size": vocabulary, "sequence": sequence, "packed": False,
        "bos": 0,
    }  # fmt: skip
    parts = prepare._parts(path)
    for part in parts:
        part.mkdir(parents=True, exist_ok=True)
    for split, count in {"train": 200, "tune": 2, "val": rows, "hidden": hidden_rows}.items():
        stream = generator.integers(1, tokens or vocabulary, count * sequence + 1).astype(np.uint16)
        stream[generator.integers(len(stream), size=len(stream) // 50)] = 0  # documents begin here and there
        np.save((parts.held_out if split in ("val", "hidden") else path) / f"{split}.npy", stream)
        meta[split] = len(stream)
    lengths = 1 + (np.arange(vocabulary) % 3 == 0).astype(np.int32)
    lengths[0] = 0
    (path / "tokenizer.json").write_text("{}")
    np.save(path / "token_bytes.npy", lengths)
    prepare._write_stub(prepare._describe(meta, path, parts.held_out), parts)
    return path


def held_out(path: Path, rows: int = 24, hidden_rows: int = 8) -> HeldOut:
    """The held-out text of such a data set."""
    return HeldOut(held_out_folder(folder(path, rows, hidden_rows)))


class Small(nn.Module):
    """An honest causal model: a running mean of embeddings, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).cumsum(1)
        x = x / torch.arange(1, tokens.shape[1] + 1)[None, :, None]
        logits: Tensor = self.head(x)
        return logits

"""The text that models are measured on, and how their answers become bits per byte. It needs numpy alone.

No training may read this text. The judge does, and a training that is run by hand, at its end.
Shapes: R rows of both splits, T tokens a row, V tokens of vocabulary.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("val", "hidden")
"""`val` is what research is judged by. `hidden` is measured too, but no agent is told the number."""

Array = np.ndarray[Any, Any]


def held_out_folder(folder: Path) -> Path:
    """Return the folder with the held-out text that belongs to a folder of data for training."""
    return folder.parent / "held-out" / folder.name


class HeldOut:
    """The rows of both splits, those of `val` first. A rest of a split that does not fill a row is left out.

    `rows` (R, T) holds the tokens that a model predicts, `counted` (R, T) which of them stand for text: all
    but BOS. `identity` names these data: two val_bpb can be compared only if it was the same.
    """

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self.identity: str = meta["data"]
        self.bos, self.sequence = int(meta["bos"]), int(meta["sequence"])
        self.token_bytes: Array = np.load(folder / "token_bytes.npy")
        self.vocab_size = len(self.token_bytes)
        parts = [self._cut(np.load(folder / f"{split}.npy", mmap_mode="r")) for split in SPLITS]
        self.val_rows = len(parts[0])
        self.rows: Array = np.concatenate(parts)
        sizes = self.token_bytes[self.rows]
        self.counted: Array = sizes > 0
        # What every candidate has in common, in words for a screen.
        self.about = f"{meta['corpus']}, vocabulary {self.vocab_size:,}, context {self.sequence:,}"
        self._bytes = [float(part.sum()) for part in np.split(sizes, [self.val_rows])]

    def _cut(self, stream: Array) -> Array:
        """Return a stream of tokens as rows, (rows, T)."""
        count = (len(stream) - 1) // self.sequence
        return stream[: count * self.sequence].astype(np.int32).reshape(count, self.sequence)

    def with_bos(self, rows: Array) -> Array:
        """Return rows of tokens (B, T) with a BOS before each, (B, T + 1): its input, and its last target."""
        return np.concatenate([np.full((len(rows), 1), self.bos, np.int32), rows], 1)

    def bits_per_byte(self, claims: Array) -> tuple[float, float]:
        """Return bits per byte on `val` and on `hidden`, from the log-probability (R, T) of each token.

        It is the sum over all tokens that stand for text, in nats, divided by ln 2 and by the bytes of that
        text. What is claimed of other tokens may be anything.
        """
        nats = np.where(self.counted, claims, 0)
        sums = [-float(part.sum(dtype=np.float64)) for part in np.split(nats, [self.val_rows])]
        val, hidden = (nats / math.log(2) / size for nats, size in zip(sums, self._bytes, strict=True))
        return val, hidden

"""Ends a training: its model is saved for the judge, or, in a run by hand, measured here.

Agents may read this file but never change it; train.py imports `evaluate` through prepare.py. The number that
research is judged by is not made here, next to code that an agent wrote, but by judge.py.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from held_out import HeldOut

    from clock import Clock
    from prepare import Data

IDENTITY_FILES = ("token_bytes.npy", "val.npy", "hidden.npy")
"""Files of held-out data that decide a model's val_bpb. meta.json has the hash of every other one."""


class BadModel(Exception):
    """This model cannot be measured; the message is one sentence that says what to do."""


def evaluate(model: torch.nn.Module, data: Data, clock: Clock) -> float:
    """End the training. Call this once, after the last step: it prints val_bpb, if it is known here.

    val_bpb is bits per byte on the validation text: lower is better. The model is called with input tokens
    (B, T) and must return logits (B, T, V). In a run by hand, this measures it, prints the number and returns
    it. Where AUTORESEARCH_MODEL_FILE names a file, the model is written there instead, for the judge, and
    this returns nan. Raises `BadModel` if it cannot be saved. `clock` is not used: the budget is over.
    """
    import saving
    from held_out import HeldOut, held_out_folder

    if path := os.environ.get("AUTORESEARCH_MODEL_FILE"):
        try:
            saving.save(model, data.folder, Path(path))
        except Exception as error:  # the model's own code may raise anything while it is pickled
            reason = (str(error).splitlines() or [""])[0]
            raise BadModel(
                f"the model cannot be saved, so nobody can measure it ({type(error).__name__}: {reason}): "
                "keep lambdas, local classes and compiled functions out of it, and leave room on the disk"
            ) from error
        return math.nan
    val_bpb = measure(model.eval(), HeldOut(held_out_folder(data.folder)))
    print(f"val_bpb:          {val_bpb:.6f}", flush=True)
    return val_bpb


def measure(model: torch.nn.Module, held_out: HeldOut) -> float:
    """Return a model's val_bpb, without any check of whether it is honest."""
    import numpy as np
    import torch
    from answers import claims, fitting

    device = next(model.parameters()).device
    found = np.zeros(held_out.rows.shape, np.float32)
    with torch.inference_mode():
        at_once = fitting(model, held_out.sequence, held_out.vocab_size, device)
        for start in range(0, held_out.val_rows, at_once):
            rows = held_out.rows[start : min(start + at_once, held_out.val_rows)]
            shown = torch.from_numpy(held_out.with_bos(rows).astype(np.int64)).to(device)
            found[start : start + len(rows)] = claims(model, shown, held_out.vocab_size).cpu().numpy()
    return held_out.bits_per_byte(found)[0]


def identity(folder: Path) -> str:
    """Return 16 hex digits that stand for these data: tokenizer, shape, and the tokens of every split.

    `folder` is the one with the held-out text. Two val_bpb can be compared only if the data had the same
    identity.
    """
    meta = json.loads((folder / "meta.json").read_text())
    meta.pop("data", None)
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in IDENTITY_FILES:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:16]

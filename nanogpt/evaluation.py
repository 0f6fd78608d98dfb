"""The other half of what makes numbers comparable: the budget clock, and val_bpb measured from logits alone.

Agents may read this file and never change it; train.py imports it through prepare.py.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from prepare import Data

SLACK_STEPS, SLACK_S = 3, 60.0
"""Warm-up steps, and seconds, that the budget clock leaves out at most."""


class Cheating(Exception):
    """The model is not what it must be for its val_bpb to mean anything; one sentence."""


# --- the budget ---


class Clock:
    """The training budget. Seconds of the wall, or of this process's CPU with AUTORESEARCH_CLOCK=cpu.

    `budget_s` comes from AUTORESEARCH_BUDGET_S. The first `SLACK_STEPS` steps (compilation, first touch of
    memory) are left out, but no more than `SLACK_S` seconds of them.
    """

    def __init__(self) -> None:
        self.budget_s = float(os.environ.get("AUTORESEARCH_BUDGET_S", "300"))
        self.max_steps = int(os.environ.get("AUTORESEARCH_MAX_STEPS", "0"))
        cpu = os.environ.get("AUTORESEARCH_CLOCK") == "cpu"
        self._now = time.process_time if cpu else time.monotonic
        self._start = self._now()
        self._excluded = 0.0
        self._last = self._start
        self.steps = 0

    def tick(self) -> None:
        """Call after every optimizer step."""
        self.steps += 1
        self._last = self._now()
        if self.steps <= SLACK_STEPS:
            self._excluded = min(self._last - self._start, SLACK_S)

    @property
    def elapsed_s(self) -> float:
        """Counted seconds up to the last step."""
        return max(0.0, self._last - self._start - self._excluded)

    @property
    def fraction(self) -> float:
        """Share of the budget that is used, 0 to 1: what schedules follow."""
        done = self.steps / self.max_steps if self.max_steps else self.elapsed_s / self.budget_s
        return min(1.0, done)

    @property
    def over(self) -> bool:
        return self.fraction >= 1.0 and self.steps > 0


# --- the number ---


def evaluate(model: torch.nn.Module, data: Data, clock: Clock, split: str = "val", rows: int = 16) -> float:
    """val_bpb: bits per byte on the fixed validation tokens, lower is better.

    The model gets input tokens alone and must return logits (rows, tokens, vocabulary); the loss is
    computed here in float32. `nats / ln 2 / bytes`, with bytes counted from the raw bytes of the targets.
    Raises `Cheating` for a model whose number would mean nothing. With AUTORESEARCH_RESULT set, the number
    also goes to that file with the nonce of AUTORESEARCH_NONCE.
    """
    import torch

    if model.training:
        raise Cheating("model in training mode: call model.eval() before evaluate")
    device = next(model.parameters()).device
    before = _checksum(model)
    nats = total_bytes = 0.0
    vocabulary = len(data.token_bytes)
    token_bytes = torch.from_numpy(data.token_bytes).to(device)
    with torch.inference_mode():
        probe(model, next(data.fixed(split, 4, device)).inputs, vocabulary)
        for inputs, targets in data.fixed(split, rows, device):
            logits = _logits(model, inputs, vocabulary)
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), reduction="none"
            )
            counted = token_bytes[targets.flatten()]
            nats += float((loss * (counted > 0)).sum(dtype=torch.float64))
            total_bytes += float(counted.sum())
    if _checksum(model) != before:
        raise Cheating("the model's parameters changed during evaluation")
    bpb = nats / math.log(2) / total_bytes
    if not math.isfinite(bpb):
        raise Cheating("val_bpb is not finite")
    _hand_over(bpb, data, clock)
    return bpb


def probe(model: torch.nn.Module, inputs: torch.Tensor, vocabulary: int) -> None:
    """Check on a few rows that logits depend on nothing but earlier tokens of the same row.

    Rounding may differ a little with the shape of a product, so a change counts from a thousandth on.
    """
    import torch

    logits = _logits(model, inputs, vocabulary)
    cut = int(torch.randint(1, inputs.shape[1] - 1, ()).item())
    other = inputs.clone()
    other[:, cut:] = (other[:, cut:] + 1 + torch.randint_like(other[:, cut:], vocabulary - 2)) % vocabulary
    if (_logits(model, other, vocabulary)[:, :cut] - logits[:, :cut]).abs().max() > 1e-3 * max(
        1.0, float(logits.abs().max())
    ):
        raise Cheating("not causal: logits change when later tokens do")
    alone = torch.cat([_logits(model, inputs[i : i + 1], vocabulary) for i in range(len(inputs))])
    if (alone - logits).abs().max() > 2e-3 * max(1.0, float(logits.abs().max())):
        raise Cheating("not independent: a row's logits depend on the other rows")


def _logits(model: torch.nn.Module, inputs: torch.Tensor, vocabulary: int) -> torch.Tensor:
    import torch

    logits = model(inputs)
    if not isinstance(logits, torch.Tensor) or logits.shape != (*inputs.shape, vocabulary):
        raise Cheating(
            f"the model must return logits of shape {(*inputs.shape, vocabulary)} for input tokens alone"
        )
    logits = logits.float()
    if not bool(torch.isfinite(logits).all()):
        raise Cheating("logits are not finite")
    return logits


def _checksum(model: torch.nn.Module) -> float:
    """A number that changes when any parameter does (but for changes that cancel to the last bit)."""
    return sum(
        float(p.detach().double().sum()) + float(p.detach().double().norm()) for p in model.parameters()
    )


def _hand_over(bpb: float, data: Data, clock: Clock) -> None:
    """Give the number to whoever started us through a file of theirs, not only as printed text."""
    if path := os.environ.get("AUTORESEARCH_RESULT"):
        result = {
            "nonce": os.environ.get("AUTORESEARCH_NONCE", ""),
            "val_bpb": bpb,
            "data": data.identity,
            "training_seconds": clock.elapsed_s,
            "steps": clock.steps,
        }
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(result))

"""Prints what `train.py --describe` shows: sizes of its model, and estimates of memory and tokens.

Agents may read this file but never change it.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from machine import cpu_flops, peak_flops

ROOM = {"h100": 80e9, "24gb": 24e9}
"""Memory of the GPU that a profile is planned for, in bytes."""
PEAK = {"h100": 989e12, "24gb": 165e12}
"""Peak FLOP/s of an H100 and of an RTX 4090."""
SHARE, SHARE_CPU = 0.4, 0.3
"""Share of the peak that training is assumed to reach: modelled for GPUs, measured for CPUs."""
COUNTING_S = 1e-8
"""Seconds that a GPU takes to count a token: modelled, three sorts of 64-bit numbers."""


def describe(train: Any) -> None:
    """Print sizes, estimated memory, and the tokens of the budget; `train` is the module."""
    with torch.device("meta"):
        model = train.GPT(*((8192, 2048) if train.LARGE else (4096, 256)), 0)
    parts = {"embedding": model.embed, "n-gram tables": model.ngrams, "value embeddings": model.values,
             "blocks": model.blocks, "head": model.head, "memory gates": model.memory}  # fmt: skip
    print(f"profile: {train.PROFILE or 'cpu'} | device: {train.DEVICE.type} | attention: {train.ATTENTION}")
    for name, part in parts.items():
        if part is not None and (size := sum(p.numel() for p in part.parameters())):
            line(name, size / 1e6, "M parameters")
    if train.LARGE:
        rows = train.rows_at_once(model, train.ROOM_SHARE * ROOM[train.PROFILE])
        gib = train.memory_bytes(model, rows) / 2**30
        line("memory", gib, f"GiB, estimated, {rows} of {train.ROWS} rows at once")
        counts, counting = (size / 2**30 for size in train.counts_bytes(model))
        tokens = train.COUNT_TOKENS
        line("counts", counts, f"GiB of it, estimated, for {tokens / 1e6:.0f} M tokens of text")
        line("counting", counting, f"GiB for about {COUNTING_S * tokens:.1f} s, modelled")
    dtype = torch.bfloat16 if train.CPU_BF16 else torch.float32
    flops, budget = train.flops_per_token(model), float(os.environ.get("AUTORESEARCH_BUDGET_S", "300"))
    peak = peak_flops(train.DEVICE) or (PEAK[train.PROFILE] if train.LARGE else cpu_flops(dtype))
    share = SHARE if train.LARGE else SHARE_CPU
    line("FLOPs per token", flops / 1e6, "M")
    line(
        "tokens", share * peak / flops * budget / 1e6,
        f"M in {budget:.0f} s, at {share:.0%} of {peak / 1e12:.2f} TFLOP/s",
    )  # fmt: skip


def line(name: str, value: float, unit: str) -> None:
    """Print one line of the table."""
    print(f"{name + ':':18} {value:9.1f} {unit}")

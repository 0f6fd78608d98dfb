"""Measures how much longer the checked evaluation takes than a plain one, and shows that both agree.

    python benchmarks/evaluation.py [--pairs 8]

The plain evaluation goes over the validation text once, with `F.cross_entropy`, and checks nothing. The
checked one (nanogpt/evaluation.py) also measures the hidden text, probes the model, and computes a sample of
the losses again. Both run in turn, in one process, on the untrained model of nanogpt/train.py.

It prints the val_bpb of each, which must agree to six decimals or more; the median and the least time of
each, in CPU seconds, because other programs on the machine change those little; and the ratio of the two
times, pair by pair: 1.10 means that the checks and the hidden text cost 10%.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "nanogpt"))

import torch
from torch.nn import functional as F

import train
from evaluation import HeldOut, measure
from prepare import load


def plain(model: torch.nn.Module, held_out: HeldOut, rows: int = 4) -> float:
    """Return val_bpb without any check, with as many rows at once as the checked evaluation takes."""
    nats = total_bytes = 0.0
    lengths = torch.from_numpy(held_out.token_bytes)
    count = held_out.count("val")
    with torch.inference_mode():
        for start in range(0, count, rows):
            batch = [held_out.row("val", i) for i in range(start, min(start + rows, count))]
            inputs, targets = held_out.tensors(batch, torch.device("cpu"))
            logits = model(inputs).flatten(0, 1).float()
            losses = F.cross_entropy(logits, targets.flatten(), reduction="none")
            counted = lengths[targets.flatten()]
            nats += float((losses * (counted > 0)).sum(dtype=torch.float64))
            total_bytes += float(counted.sum())
    return nats / math.log(2) / total_bytes


def timed(run: Callable[[], object]) -> float:
    """Return the CPU seconds that a call takes."""
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    """Measure both evaluations in turn and print the comparison."""
    parser = argparse.ArgumentParser(description="Compare the checked evaluation with a plain one.")
    parser.add_argument("--pairs", type=int, default=8, help="how often to measure each (8)")
    pairs = parser.parse_args().pairs
    torch.manual_seed(1)
    data = load()
    model = train.GPT(data.vocab_size, data.sequence, data.bos)
    torch.nn.init.normal_(model.head.weight, std=0.02)
    if model.memory is not None:
        train.Trainer(model, data, 1)._count(model.memory)
    model.eval()
    held_out = HeldOut(data.folder)
    print(f"plain   {plain(model, held_out):.9f}\nchecked {measure(model, data.folder).val_bpb:.9f}")
    times = [
        (timed(lambda: plain(model, held_out)), timed(lambda: measure(model, data.folder)))
        for _ in range(pairs)
    ]
    for name, seconds in zip(("plain", "checked"), zip(*times, strict=True), strict=True):
        print(f"{name:7} median {median(seconds):.2f} s, least {min(seconds):.2f} s")
    ratios = sorted(checked / bare for bare, checked in times)
    print(f"checked / plain: median {median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}")


if __name__ == "__main__":
    main()

"""What a training would do on GPUs that are not there: rows, memory, speed, and whether its kernels assemble.

    python -m tests.lab.report                   the table of docs/benchmarks.md, some minutes a card
    python -m tests.lab.report --card H100-80    one card, as JSON

It needs torch's CUDA wheel, for Triton and ptxas, in an environment of its own, and no GPU: `make lab` makes
one. `--trainer FOLDER` looks at another train.py. Memory is counted from the compiler's graphs; with it the
baseline of karpathy/autoresearch comes out at 47.3 GB (logged 47.2) and its branch mar8 at 65.0 (64.6). Speed
is a roofline (cards.py). Neither is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.lab.cards import CARDS, Card, Work, seconds

ROOT = Path(__file__).parents[2]
VOCABULARY, SEQUENCE = 8192, 2048
"""The shape of climbmix, which a GPU trains on."""
RESERVED = 1.0e9
"""Bytes that CUDA and its libraries take for themselves."""


def examine(card: Card, folder: Path, only: bool = False) -> dict[str, Any]:
    """Compile the trainer in `folder` for the card, and say what a step of it takes.

    With `only`, kernels are lowered and not assembled, which takes a third of the time.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from tests.lab import fake, lower

    fake.pretend(card)
    train = fake.load_trainer(folder)
    attention = train.attention

    def flash(q: Any, k: Any, v: Any, window: int, backend: str) -> Any:
        """Attention to all tokens as a window that hides none: for another torch would ask the device."""
        return attention(q, k, v, min(window, q.size(1) - 1), "varlen")

    train.attention = flash  # type: ignore[attr-defined]

    def make() -> Any:
        return train.GPT(VOCABULARY, SEQUENCE, 0)

    with torch.device("meta"):
        model = make()
    rows = train.rows_at_once(model, 0.85 * (card.memory - 500 * 2**20))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        state = state_bytes(train, make())
    found = lower.passes(make, rows, SEQUENCE)
    kernels, refused = 0, list[str]()
    for part in (found.forward, found.backward) if not only else ():
        number, wrong = lower.assemble(part.source, card)
        kernels, refused = kernels + number, refused + wrong
    work = work_of(train, model, rows, found, state)
    tokens, step = train.ROWS * SEQUENCE, seconds(card, work)
    speed = tokens / step
    return {
        "card": card.title,
        "rows": rows,
        "of": train.ROWS,
        "parameters": sum(p.numel() for p in model.parameters()),
        "memory": state["all"] + (state["learned"] if work.passes > 1 else 0) + found.saved + RESERVED,
        "estimate": train.memory_bytes(model, rows),
        "card_memory": card.memory,
        "saved_a_token": found.saved / (rows * SEQUENCE),
        "step_ms": 1000 * step,
        "tokens_a_second": speed,
        "mfu": train.flops_per_token(model) * speed / card.peak,
        "kernels": kernels,
        "refused": refused,
    }


def state_bytes(train: ModuleType, model: Any) -> dict[str, float]:
    """Bytes of weights, gradients and what the optimizer keeps; `learned`: of the weights alone."""
    import torch

    learned = sum(p.numel() * p.element_size() for p in model.parameters())
    optimizer = train.MuonAdamW(model)
    weights = {id(t) for t in (*model.parameters(), *model.buffers())}
    kept = dict[int, float]()

    def walk(value: Any) -> None:
        if isinstance(value, torch.Tensor) and id(value) not in weights:
            kept[id(value)] = value.numel() * value.element_size()
        elif isinstance(value, list | tuple):
            for part in value:
                walk(part)
        elif isinstance(value, dict):
            walk(list(value.values()))

    walk(vars(optimizer))
    gradients = sum(p.numel() * p.element_size() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    return {
        "all": learned + gradients + buffers + sum(kept.values()),
        "kept": sum(kept.values()),
        "learned": learned,
    }


def work_of(train: ModuleType, model: Any, rows: int, found: Any, state: dict[str, float]) -> Work:
    """What a step of all its passes computes and moves."""
    tokens, passes = train.ROWS * SEQUENCE, train.ROWS // rows
    products = sum(p.numel() for p in model.blocks.parameters()) + model.head.weight.numel()
    # A token attends to half of the row on average; the backward pass takes 2.5 times the forward one.
    attended = sum(min(block.window, SEQUENCE / 2) for block in model.blocks)
    width = model.embed.weight.size(1)
    again = (passes - 1) * 3 * state["learned"]  # the gradients of a later pass are added to the first's
    # A step reads and writes weights and moments, and reads gradients.
    optimizer = 3 * state["learned"] + 2 * state["kept"]
    return Work(
        passes,
        6 * products * tokens,
        3.5 * 4 * width * attended * tokens,
        passes * (found.forward.triton_bytes + found.backward.triton_bytes) + again,
        optimizer,
    )


def line(found: dict[str, Any]) -> str:
    """The table's row of one card."""
    taken = f"{found['kernels'] - len(found['refused'])} of {found['kernels']}"
    return (
        f"| {found['card']} | {found['parameters'] / 1e6:.0f} M | {found['rows']} of {found['of']} "
        f"| {found['memory'] / 2**30:.1f} of {found['card_memory'] / 2**30:.1f} "
        f"| {found['tokens_a_second'] / 1e6:.2f}M | {found['mfu']:.0%} | {taken} |"
    )


def main() -> None:
    """Print one card's figures, or the table of all."""
    parser = argparse.ArgumentParser(description="What a training would do on GPUs that are not there.")
    parser.add_argument("--card", choices=list(CARDS))
    parser.add_argument("--trainer", type=Path, default=ROOT / "nanogpt")
    parser.add_argument("--no-ptxas", action="store_true", help="do not assemble the kernels")
    options = parser.parse_args()
    if options.card:
        print(json.dumps(examine(CARDS[options.card], options.trainer, options.no_ptxas)))
        return
    print("| GPU | parameters | rows a pass | memory, GiB | tokens/s | MFU | kernels that ptxas takes |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for title in CARDS:  # each in a process of its own: torch believes in one GPU for good
        command = [sys.executable, "-m", "tests.lab.report", "--card", title, "--trainer", options.trainer]
        more = ["--no-ptxas"] if options.no_ptxas else []
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            print(f"| {title} | {done.stderr.strip().splitlines()[-1][:200]} | | | | | |", flush=True)
        else:
            print(line(json.loads(done.stdout.splitlines()[-1])), flush=True)


if __name__ == "__main__":
    main()

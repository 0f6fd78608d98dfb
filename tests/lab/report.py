"""What a training would do on GPUs that are not there: rows, memory, speed, and whether its kernels assemble.

    python -m tests.lab.report                    the table of docs/benchmarks.md, some minutes
    python -m tests.lab.report --cards H100-80    some cards that have one profile, as JSON, a line each

It needs torch's CUDA wheel, for Triton and ptxas, in an environment of its own, and no GPU: `make lab` makes
one. `--trainer FOLDER` looks at another train.py. Memory is counted from the compiler's graphs; with it the
baseline of karpathy/autoresearch comes out at 47.3 GB (logged 47.2) and its branch mar8 at 65.0 (64.6). Speed
is a roofline (cards.py). Neither is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.lab.cards import CARDS, Card, Work, seconds

ROOT = Path(__file__).parents[2]
VOCABULARY, SEQUENCE = 8192, 2048
"""The shape of climbmix, which a GPU trains on."""
PROFILES = (("H100-80", "A100-80", "A100-40"), ("RTX 4090", "L4"))
"""The cards that have the large profile, and those that have the small one."""
RESERVED = 1.0e9
"""Bytes that CUDA and its libraries take for themselves."""


def examine(cards: list[Card], folder: Path, only: bool = False) -> Iterator[dict[str, Any]]:
    """Compile the trainer in `folder` once, and say what a step of it takes on each card.

    The cards must have the same profile: the code is that of the first, for as many rows as fit there, and
    its traffic is proportional to rows. It is assembled for each kind of card; with `only` it is not.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from tests.lab import fake, lower

    fake.pretend(cards[0])
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
    rows = fitting(train, model, cards[0])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        kept = kept_bytes(train.MuonAdamW(make()))
    found = lower.passes(make, loss, looked_up(model, rows), rows, SEQUENCE)
    parts = [found.forward, found.backward, *(lower.step(train.muon, of) for of in muon_stacks(model))]
    assembled = {
        card.capability: [lower.assemble(part.source, card) for part in ([] if only else parts)]
        for card in cards
    }
    for card in cards:
        here = fitting(train, model, card)
        saved = found.saved * here / rows
        traffic = (found.forward.triton_bytes + found.backward.triton_bytes) * here / rows
        work = work_of(train, model, here, traffic, kept)
        tokens, step = train.ROWS * SEQUENCE, seconds(card, work)
        yield {
            "card": card.title,
            "rows": here,
            "of": train.ROWS,
            "parameters": sum(p.numel() for p in model.parameters()),
            "memory": memory(train, model, here, saved, kept),
            "estimate": train.memory_bytes(model, here),
            "card_memory": card.memory,
            "saved_a_token": found.saved / (rows * SEQUENCE),
            "step_ms": 1000 * step,
            "tokens_a_second": tokens / step,
            "mfu": train.flops_per_token(model) * tokens / step / card.peak,
            "kernels": sum(number for number, _ in assembled[card.capability]),
            "refused": [wrong for _, refused in assembled[card.capability] for wrong in refused],
        }


def fitting(train: ModuleType, model: Any, card: Card) -> int:
    """The rows that the trainer passes at once on this card."""
    rows: int = train.rows_at_once(model, train.ROOM_SHARE * (card.memory - 500 * 2**20))
    return rows


def looked_up(model: Any, rows: int) -> list[Any]:
    """What is looked up outside of the compiled loss: n-gram embeddings (B, T, D), and the counts' shares."""
    import torch

    from tests.lab.lower import Given

    N, width = rows * SEQUENCE, model.embed.weight.size(1)
    found = [Given((rows, SEQUENCE, width), torch.float32, True)] if model.ngrams else []
    if model.memory is not None:
        orders = model.memory.counts.orders
        found += [Given((N, size), torch.float32, False) for size in (1 + orders, 1 + orders, 2 * orders)]
    return found


def loss(model: Any, tokens: Any, targets: Any, *given: Any) -> Any:
    """The loss by the part of the model that is compiled, with what was looked up (`looked_up`)."""
    grams, shares = (given[0], given[1:]) if model.ngrams else (None, given)
    from counts import Shares  # type: ignore[attr-defined,unused-ignore]

    return -model.dense(tokens, targets, grams, Shares(*shares) if shares else None, None).mean()


def muon_stacks(model: Any) -> list[Any]:
    """What the compiled Muon step takes for the matrices of each shape."""
    import torch

    from tests.lab.lower import Given

    shapes = [tuple(p.shape) for p in model.blocks.parameters()]
    found = []
    for rows, columns in sorted(set(shapes)):
        count = shapes.count((rows, columns))
        whole = Given((count, rows, columns), torch.float32, False)
        means = Given((count, rows, 1) if rows >= columns else (count, 1, columns), torch.float32, False)
        found.append([whole, whole, whole, means, *[Given((), torch.float32, False)] * 4])
    return found


def kept_bytes(optimizer: Any) -> float:
    """Bytes of what the optimizer keeps besides the weights."""
    import torch

    weights = {id(p) for stack in optimizer.stacks for p in stack} | {id(p) for p, *_ in optimizer.adam}
    weights |= {id(table) for table in optimizer.tables}
    found = dict[int, float]()

    def walk(value: Any) -> None:
        if isinstance(value, torch.Tensor) and id(value) not in weights:
            found[id(value)] = value.numel() * value.element_size()
        elif isinstance(value, list | tuple):
            for part in value:
                walk(part)

    walk(list(vars(optimizer).values()))
    return float(sum(found.values()))


def memory(train: ModuleType, model: Any, rows: int, saved: float, kept: float) -> float:
    """Bytes at the peak: of weights, gradients, moments, counts and activations, or while text is counted.

    N-gram tables have gradients of the rows that were looked up alone, twice while they are summed by row.
    """
    tables = sum(4 * p.numel() for p in model.ngrams.parameters())
    dense = sum(4 * p.numel() for p in model.parameters()) - tables
    looked = 2 * 4 * train.ROWS * SEQUENCE * model.embed.weight.size(1) * len(model.ngrams)
    passed = sum(4 * math.prod(one.shape) * (2 if one.learned else 1) for one in looked_up(model, rows))
    counts, counting = train.counts_bytes(model)
    stays = tables + dense + kept + RESERVED
    return float(max(stays + dense + looked + passed + counts + saved, stays + counting))


def work_of(train: ModuleType, model: Any, rows: int, traffic: float, kept: float) -> Work:
    """What a step of all its passes computes and moves; `traffic` is that of one pass's kernels.

    Looking up counts is not in it.
    """
    tokens, passes = train.ROWS * SEQUENCE, train.ROWS // rows
    products = sum(p.numel() for p in model.blocks.parameters()) + model.head.weight.numel()
    # A token attends to half of the row on average; the backward pass takes 2.5 times the forward one.
    attended = sum(min(block.window, SEQUENCE / 2) for block in model.blocks)
    width = model.embed.weight.size(1)
    tables = sum(4 * p.numel() for p in model.ngrams.parameters())
    dense = sum(4 * p.numel() for p in model.parameters()) - tables
    again = (passes - 1) * 3 * dense  # the gradients of a later pass are added to the first's
    # Weights and moments are read and written, gradients read. Rows of tables: looked up, their gradients
    # written, sorted and summed, and the rows changed.
    optimizer = 3 * dense + 2 * kept + 10 * 4 * tokens * width * len(model.ngrams)
    return Work(
        passes,
        6 * products * tokens,
        3.5 * 4 * width * attended * tokens,
        passes * traffic + again,
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
    """Print some cards' figures, or the table of all."""
    parser = argparse.ArgumentParser(description="What a training would do on GPUs that are not there.")
    parser.add_argument("--cards", nargs="+", choices=list(CARDS), metavar="CARD", help=", ".join(CARDS))
    parser.add_argument("--trainer", type=Path, default=ROOT / "nanogpt")
    parser.add_argument("--no-ptxas", action="store_true", help="do not assemble the kernels")
    options = parser.parse_args()
    if options.cards:
        for found in examine([CARDS[title] for title in options.cards], options.trainer, options.no_ptxas):
            print(json.dumps(found), flush=True)
        return
    print("| GPU | parameters | rows a pass | memory, GiB | tokens/s | MFU | kernels that ptxas takes |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for titles in PROFILES:  # each in a process of its own: torch believes in one GPU for good
        command = [sys.executable, "-m", "tests.lab.report", "--trainer", str(options.trainer)]
        command += ["--no-ptxas"] if options.no_ptxas else []
        done = subprocess.run([*command, "--cards", *titles], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{', '.join(titles)}: it does not compile, see above")
        for said in done.stdout.splitlines():
            if said.startswith("{"):
                print(line(json.loads(said)), flush=True)


if __name__ == "__main__":
    main()

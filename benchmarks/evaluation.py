"""Measures the judge (nanogpt/judge.py): what it finds, what it costs, and whom it refuses.

    python benchmarks/evaluation.py [--seconds 40] [--pairs 6] [--tries 1000]

It trains two models with nanogpt/train.py on the sympy corpus, which differ in their seed: an incumbent and a
candidate. Then it prints

- agreement: val_bpb by the judge, with its real processes, and by an independent computation;
- cost: CPU seconds of the judge with both processes, of a plain pass over the validation text in a running
  process, and of a fresh process that loads the model and does that pass; and the ratios, pair by pair;
- rounding: how claims and proofs of an honest model differ in float32, with logits in bf16, and with all
  matrix products in bf16 and summed in another order, as another kernel would; and how many of `--tries`
  evaluations with such differences were refused;
- power: how often a cheat is caught, by how it cheats and how much it gains; again with a tenth of the tries
  for as many rows as the H100 profile has.

Measured differences are drawn from instead of computed anew for each try. Results: docs/verdicts.md.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "nanogpt"))

import numpy as np
import proofs
import torch
from answers import claims as claimed
from held_out import Array, HeldOut, held_out_folder
from saving import load
from torch.nn import functional as F

from prepare import cache_folder, prepare
from tests.nanogpt.judging import judged

ROOT = Path(__file__).parents[1]
H100_ROWS = 10_496
"""Rows of held-out text that the H100 profile is measured on."""
ROWS = 4
"""Rows at once, as answers.py has them on a CPU."""
PLAIN = """
import sys
from pathlib import Path
import torch
from evaluation import measure
from held_out import HeldOut
from saving import load
print(measure(load(Path(sys.argv[1]), torch.device("cpu")), HeldOut(Path(sys.argv[2]))))
"""


Lie = Callable[[Array, float, np.random.Generator], Array]
"""Makes false claims (R, T) of true ones, in a share of all places."""


class Pair(NamedTuple):
    """What a candidate and its incumbent claim of the same tokens, each (R, T)."""

    claims: Array
    reference: Array
    tokens: Array
    counted: Array

    def resampled(self, rows: int, chance: np.random.Generator) -> Pair:
        """Return so many rows of tokens drawn from these."""
        at = chance.integers(self.tokens.size, size=(rows, self.tokens.shape[1]))
        return Pair(*(np.asarray(part.flatten()[at]) for part in self))


class World(NamedTuple):
    """What was trained, and on what it is measured."""

    held_out: HeldOut
    folder: Path
    models: list[Path]
    pair: Pair


# --- plain ---


def losses(model: Any, rows: Array, bos: int, dtype: torch.dtype = torch.float32) -> Array:
    """Return the loss (B, T) of each token of some rows, with `F.cross_entropy` in this precision."""
    targets = torch.from_numpy(rows.astype(np.int64))
    inputs = torch.roll(targets, 1, 1)
    inputs[:, 0] = bos
    with torch.inference_mode():
        found = F.cross_entropy(model(inputs).to(dtype).flatten(0, 1), targets.flatten(), reduction="none")
    return np.asarray(found.view(targets.shape).numpy())


def plain(model: Any, held_out: HeldOut) -> float:
    """Return val_bpb without any check."""
    lengths, nats, size = held_out.token_bytes, 0.0, 0
    for start in range(0, held_out.val_rows, ROWS):
        rows = held_out.rows[start : min(start + ROWS, held_out.val_rows)]
        counted = lengths[rows] > 0
        nats += float(losses(model, rows, held_out.bos)[counted].sum(dtype=np.float64))
        size += int(lengths[rows].sum())
    return nats / math.log(2) / size


def all_claims(model: Any, held_out: HeldOut, seed: int, dtype: torch.dtype | None = None) -> Array:
    """Return the log-probability (R, T) of each token; rows go through the model in a random order.

    Without a `dtype` they are what the claimant claims, else those of the logits, computed in this precision.
    """
    found = np.zeros(held_out.rows.shape)
    order = np.random.default_rng(seed).permutation(len(found))
    for start in range(0, len(order), ROWS):
        at = order[start : start + ROWS]
        if dtype is None:
            rows = torch.from_numpy(held_out.with_bos(held_out.rows[at]).astype(np.int64))
            with torch.inference_mode():
                found[at] = claimed(model, rows, held_out.vocab_size).numpy()
        else:
            found[at] = -losses(model, held_out.rows[at], held_out.bos, dtype)
    return found


# --- the parts ---


def trained(folder: Path, seconds: float) -> list[Path]:
    """Train two models that differ in their seed; return their files."""
    models = []
    for seed in (1, 2):
        path = folder / str(seed) / "model.pt"
        path.parent.mkdir()
        more = {
            "AUTORESEARCH_CLOCK": "cpu",
            "AUTORESEARCH_BUDGET_S": f"{seconds:g}",
            "AUTORESEARCH_SEED": str(seed),
            "AUTORESEARCH_MODEL_FILE": str(path),
        }
        command = [sys.executable, str(ROOT / "nanogpt/train.py")]
        subprocess.run(command, env=os.environ | more, stdout=subprocess.DEVNULL, check=True)
        models.append(path)
    return models


def cost(world: World, pairs: int, out: Path) -> None:
    """Print what the judge costs, and that both ways agree."""
    model = load(world.models[1], torch.device("cpu"))
    np.save(out / "reference.npy", world.pair.reference.astype(np.float16))
    answers = [sys.executable, str(ROOT / "nanogpt/answers.py"), str(world.models[1])]
    table = []
    for i in range(pairs):
        in_process = timed(lambda: plain(model, world.held_out), resource.RUSAGE_SELF)
        fresh = timed(lambda: plain_process(world), resource.RUSAGE_CHILDREN)
        found = judged(answers, cache_folder(), out / str(i), reference=out / "reference.npy")
        table.append((in_process, fresh, *found.cpu_s))
    number = plain(model, world.held_out)
    print(f"val_bpb: judge {found.judged['val_bpb']:.9f}, independent {number:.9f}")
    columns = [sorted(column) for column in zip(*table, strict=True)]
    names = ("plain pass", "fresh process", "claimant", "witness", "judge")
    for name, seconds in zip(names, columns, strict=True):
        print(f"{name:14} {median(seconds):.2f} CPU s, {seconds[0]:.2f} to {seconds[-1]:.2f}")
    for name, at in (("plain pass", 0), ("fresh process", 1)):
        ratios = sorted(sum(row[2:]) / row[at] for row in table)
        print(f"judge / {name}: {median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}")


def plain_process(world: World) -> None:
    """Load the model and measure it plainly in a process of its own."""
    subprocess.run(
        [sys.executable, "-c", PLAIN, str(world.models[1]), str(world.folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "nanogpt")}, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def timed(run: Callable[[], object], whose: int) -> float:
    """Return the CPU seconds that a call takes, of this process or of its children."""
    before = resource.getrusage(whose)
    run()
    after = resource.getrusage(whose)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def coarse_linear(chunks: int) -> Callable[..., Any]:
    """Return a matrix product in bf16 that adds up its terms in so many parts."""

    def linear(x: Any, weight: Any, bias: Any = None) -> Any:
        x, weight = x.bfloat16().float(), weight.bfloat16().float()
        parts = zip(x.chunk(chunks, -1), weight.chunk(chunks, -1), strict=True)
        y: Any = sum(torch.matmul(a, b.T) for a, b in parts)
        return (y if bias is None else y + bias).bfloat16().float()

    return linear


def differences(world: World) -> dict[str, Array]:
    """Return claims minus proofs (R, T) of an honest model that computes in several ways."""
    model: Any = load(world.models[1], torch.device("cpu"))
    held_out, found = world.held_out, dict[str, Array]()

    class Rounded(torch.nn.Module):
        def forward(self, tokens: Any) -> Any:
            return model(tokens).bfloat16()

    # As the claimant and the judge do it: one normalises in float32, the other in float64.
    for name, kind in (("float32", model), ("logits in bf16", Rounded())):
        found[name] = all_claims(kind, held_out, 1) - all_claims(kind, held_out, 2, torch.float64)
    before, kernels = F.linear, []
    for chunks, dtype in ((1, None), (4, torch.float64)):
        F.linear = coarse_linear(chunks)
        kernels.append(all_claims(model, held_out, chunks, dtype))
    F.linear = before
    found["bf16, other kernels"] = kernels[0] - kernels[1]
    return found


def honest(world: World, tries: int) -> None:
    """Print how claims and proofs of honest models differ, and how many models are refused."""
    print(f"\n| an honest model's rounding | sd | worst | refused of {tries} | proofs, median |")
    print("|---|---|---|---|---|")
    for name, better in differences(world).items():
        answers = [verdict(world.pair, better, seed) for seed in range(tries)]
        refused = sum(bool(why) for why, _ in answers)
        counted = better[world.pair.counted]
        proved = median(count for _, count in answers)
        print(f"| {name} | {counted.std():.1e} | {abs(counted).max():.1e} | {refused} | {proved:.0f} |")


def verdict(pair: Pair, better: Array, seed: int, alone: bool = False) -> tuple[str, int]:
    """Return why a candidate's claims are refused, if they are, and how many were proved.

    `better` (R, T) is by how much each claim is better than its proof. `alone` means without a reference.
    """
    reference = None if alone else pair.reference
    gain = proofs.gains(pair.claims, reference, pair.tokens, pair.counted)
    places, found = proofs.examine(
        gain, pair.counted, not alone, np.random.default_rng(seed),
        lambda p: np.asarray(better[p.rows, p.columns]),
    )  # fmt: skip
    return proofs.objection(found, places.uniform), len(places.rows)


def peek(claims: Array, share: float, chance: np.random.Generator) -> Array:
    """See the next token in a share of all places."""
    return np.where(chance.random(claims.shape) < share, np.float32(-1e-4), claims)


def lift(claims: Array, share: float, chance: np.random.Generator, by: float) -> Array:
    """Claim so many nats more in a share of all places."""
    return np.where(chance.random(claims.shape) < share, np.minimum(claims + np.float32(by), -1e-4), claims)


def power(pair: Pair, bpb: float, tries: int) -> None:
    """Print how often cheats are caught; `bpb` is what a nat a token is in bits per byte."""
    print(f"\n{len(pair.claims):,} rows")
    print(f"| cheat | places | gain, nats a token | gain, bpb | caught of {tries} | without a reference |")
    print("|---|---|---|---|---|---|")
    rows: list[tuple[str, Lie, float]] = [
        ("the next token is known", peek, share) for share in (0.01, 0.002, 0.001, 0.0005)
    ]
    for by, shares in ((1.0, (0.01, 0.005, 0.002)), (0.24, (0.04, 0.02, 0.01)), (0.02, (0.25, 0.1, 0.05))):
        rows += [(f"{by:g} nats better", partial(lift, by=by), share) for share in shares]
    for name, lie, share in rows:
        gains, caught = [], [0, 0]
        for seed in range(tries):
            claims = lie(pair.claims, share, np.random.default_rng(10**6 + seed))
            better = claims - pair.claims
            gains.append(float(better[pair.counted].mean()))
            for alone in (False, True):
                caught[alone] += bool(verdict(pair._replace(claims=claims), better, seed, alone)[0])
        gain = float(np.mean(gains))
        print(f"| {name} | {share:.2%} | {gain:.4f} | {gain * bpb:.5f} | {caught[0]} | {caught[1]} |")


def main() -> None:
    """Train, then print all tables."""
    parser = argparse.ArgumentParser(description="Measure the judge.")
    parser.add_argument("--seconds", type=float, default=40.0, help="CPU seconds of each training (40)")
    parser.add_argument("--pairs", type=int, default=6, help="how often to measure the cost (6)")
    parser.add_argument("--tries", type=int, default=1000, help="evaluations of each kind (1000)")
    options = parser.parse_args()
    os.environ["AUTORESEARCH_DATA"] = "sympy"
    folder = held_out_folder(prepare())
    held_out = HeldOut(folder)
    with tempfile.TemporaryDirectory() as work:
        models = trained(Path(work), options.seconds)
        reference, claims = (all_claims(load(path, torch.device("cpu")), held_out, 0) for path in models)
        pair = Pair(claims, reference, held_out.rows, held_out.counted)
        world = World(held_out, folder, models, pair)
        cost(world, options.pairs, Path(work))
        honest(world, options.tries)
    bpb = held_out.bits_per_byte(np.full(pair.claims.shape, -1.0))[0]
    power(pair, bpb, options.tries)
    large = pair.resampled(H100_ROWS, np.random.default_rng(2))
    power(large, bpb, options.tries // 10)


if __name__ == "__main__":
    main()

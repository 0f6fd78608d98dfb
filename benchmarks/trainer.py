"""Measures the val_bpb of nanogpt/train.py, of it with one technique changed, and of simpler methods.

    python benchmarks/trainer.py [--seconds 60] [--repeats 1] [NAME ...]

It prints one table row for each method: mean val_bpb (bits per byte on the validation text, lower is better),
its standard deviation, the number of trainings, and the optimizer steps of one. The methods are

- `ours` and its variants (`VARIANTS`), which change hyperparameters of train.py;
- `plain`: benchmarks/plain_gpt.py, a GPT without newer techniques, at several learning rates (`PLAIN`);
- methods without a network: Kneser-Ney n-grams over the same tokens, and the compressors xz and PPMd.

Every training uses the sympy corpus, one thread and a budget of CPU seconds, which a busy machine changes
little. NAME chooses rows; without names all are measured, which takes 14 trainings for each repeat. Rows
whose means differ by less than two standard deviations may differ by chance. Results: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import lzma
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "nanogpt"))

VARIANTS: dict[str, dict[str, str]] = {
    "ours": {},
    "no copies": {"COPY_LENGTH": "0"},
    "counts up to trigrams": {"COUNT_ORDER": "3"},
    "counts up to 4-grams": {"COUNT_ORDER": "4"},
    "no counts, no copies": {"COUNT_ORDER": "0", "COPY_LENGTH": "0"},
    "no counts, hashed tables": {"COUNT_ORDER": "0", "COPY_LENGTH": "0", "NGRAM_TABLES": "2"},
    "gates alone learn": {"MATRIX_LR": "0.0", "EMBED_LR": "0.0", "HEAD_LR": "0.0", "SCALAR_LR": "0.0"},
    "fp32": {"CPU_BF16": "False"},
    "depth 1": {"DEPTH": "1"},
    "depth 3": {"DEPTH": "3"},
}
PLAIN = ("1e-3", "3e-3", "6e-3", "1e-2")
"""Learning rates of the plain GPT; the best of them is the one to compare with."""
FAST = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "2073741824",
    "AUTORESEARCH_CLOCK": "cpu",
    "AUTORESEARCH_DATA": "sympy",
}


def trained(script: Path, seconds: float, seed: int, **more: str) -> tuple[float, int]:
    """Run a training script for some CPU seconds; return its val_bpb and its number of steps."""
    environment = {"AUTORESEARCH_BUDGET_S": f"{seconds:g}", "AUTORESEARCH_SEED": str(seed), **more}
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | FAST | environment, capture_output=True, text=True
    )
    found = dict(re.findall(r"^(val_bpb|num_steps): +(\S+)$", done.stdout, re.MULTILINE))
    if done.returncode or "val_bpb" not in found:
        sys.exit(f"{script} failed: {done.stderr[-500:]}")
    return float(found["val_bpb"]), int(found["num_steps"])


def variant(changes: dict[str, str], seconds: float, seed: int) -> tuple[float, int]:
    """Train with a copy of nanogpt in which train.py has other values; return val_bpb and steps."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "nanogpt", folder, dirs_exist_ok=True)
        script = Path(folder) / "train.py"
        source = script.read_text()
        for name, value in changes.items():
            source, count = re.subn(rf"^{name} = [^#\n]+", f"{name} = {value}  ", source, count=1, flags=re.M)
            assert count == 1, name
        script.write_text(source)
        return trained(script, seconds, seed)


def show(name: str, values: list[float], note: str = "") -> None:
    """Print the table row of a method; `values` are the val_bpb of its trainings."""
    spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
    print(f"| {name} | {statistics.mean(values):.4f} | {spread} | {len(values)} | {note} |", flush=True)


# --- without a network ---


class KneserNey:
    """An interpolated Kneser-Ney model of tokens, one discount for each order (Chen and Goodman 1998)."""

    def __init__(self, stream: Any, order: int, vocab_size: int) -> None:
        """Count the n-grams of 1 to `order` tokens in a stream (S,)."""
        self.order, self.V = order, vocab_size
        self.levels: list[tuple[Any, ...]] = []
        for n in range(1, order + 1):
            keys = (
                self._keys(stream, n) if n == order else np.unique(self._keys(stream, n + 1)) % vocab_size**n
            )
            grams, counts = np.unique(keys, return_counts=True)
            contexts, start, kinds = np.unique(grams // vocab_size, return_index=True, return_counts=True)
            ones, twos = (counts == 1).sum(), (counts == 2).sum()
            discount = ones / (ones + 2 * twos)
            self.levels.append((grams, counts, contexts, np.add.reduceat(counts, start), kinds, discount))

    def _keys(self, stream: Any, n: int) -> Any:
        """Return each n-gram of the stream as one number, its tokens the digits: (S - n + 1,)."""
        keys = np.zeros(len(stream) - n + 1, np.int64)
        for i in range(n):
            keys = keys * self.V + stream[i : len(stream) - n + 1 + i]
        return keys

    def bits(self, rows: Any) -> Any:
        """Return the bits that each token of some rows (R, T + 1) costs, (R, T): the first token is given."""
        share = np.full(rows[:, 1:].shape, 1.0 / self.V)
        for n, (grams, counts, contexts, totals, kinds, discount) in enumerate(self.levels, 1):
            key = np.zeros_like(share, dtype=np.int64)
            for back in range(n - 1, -1, -1):
                part = np.full(share.shape, -1, np.int64)
                part[:, max(0, back - 1) :] = rows[:, 1 + max(0, back - 1) - back : rows.shape[1] - back]
                key = np.where((key < 0) | (part < 0), -1, key * self.V + part)
            at = np.searchsorted(contexts, key // self.V).clip(max=len(contexts) - 1)
            known = (contexts[at] == key // self.V) & (key >= 0)
            gram = np.searchsorted(grams, key).clip(max=len(grams) - 1)
            count = np.where(grams[gram] == key, counts[gram], 0)
            mixed = (np.maximum(count - discount, 0) + discount * kinds[at] * share) / totals[at]
            share = np.where(known, mixed, share)
        return -np.log2(share)


def without_network(wanted: Callable[[str], bool]) -> None:
    """Measure n-gram models and compressors on the validation text and print their rows.

    The n-gram models see the rows that the trainings are measured on, so their contexts end where a row
    starts. A compressor sees the whole text and may copy from anywhere in it. Its number is not a fair
    comparison: it says what a longer memory is worth. "Primed" is its cost after the training text.
    """
    from corpus import split_sympy
    from held_out import HeldOut, held_out_folder

    from prepare import load

    data = load()
    held_out = HeldOut(held_out_folder(data.folder))
    rows = held_out.with_bos(held_out.rows[: held_out.val_rows]).astype(np.int64)
    counted = held_out.token_bytes[rows[:, 1:]]
    stream = np.asarray(data.streams["train"]).astype(np.int64)
    for order in (2, 3, 4):
        if wanted(name := f"Kneser-Ney {order}-gram"):
            bits = KneserNey(stream, order, data.vocab_size).bits(rows)
            show(name, [float(bits[counted > 0].sum() / counted.sum())], "static, the same rows")
    text = {split: "".join(parts).encode() for split, parts in split_sympy().documents.items()}
    packers: dict[str, Callable[[bytes], int]] = {"xz": lambda b: len(lzma.compress(b, preset=9))}
    try:
        import pyppmd

        packers |= {f"PPMd order {o}": _ppmd(pyppmd, o) for o in (6, 16)}
    except ImportError:
        print("(pyppmd is not installed)")
    for name, size in packers.items():
        if wanted(name):
            alone = 8 * size(text["val"]) / len(text["val"])
            primed = 8 * (size(text["train"] + text["val"]) - size(text["train"])) / len(text["val"])
            show(name, [alone], "adapts to the whole validation text")
            show(f"{name}, primed", [primed], "the same, after the training text")


def _ppmd(pyppmd: Any, order: int) -> Callable[[bytes], int]:
    """Return a function that gives the size in bytes of a text after compression with PPMd."""
    return lambda b: len(pyppmd.compress(b, max_order=order, mem_size=1 << 30))


def main() -> None:
    """Measure the rows that the command line names."""
    parser = argparse.ArgumentParser(description="Measure val_bpb of the trainer and of simpler methods.")
    parser.add_argument("names", nargs="*", help="rows to measure; all without names")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of a training (60)")
    parser.add_argument("--repeats", type=int, default=1, help="trainings a row, each with another seed (1)")
    options = parser.parse_args()

    def wanted(name: str) -> bool:
        return not options.names or any(name.startswith(n) for n in options.names)

    print("| | val_bpb | sd | trainings | |\n|---|---|---|---|---|")
    for name, changes in VARIANTS.items():
        if name in options.names or not options.names:
            runs = [variant(changes, options.seconds, 1337 + i) for i in range(options.repeats)]
            show(name, [bpb for bpb, _ in runs], f"{round(statistics.mean(s for _, s in runs))} steps")
    if wanted("plain"):
        for rate in PLAIN:
            plain = ROOT / "benchmarks/plain_gpt.py"
            seeds = range(1337, 1337 + options.repeats)
            runs = [trained(plain, options.seconds, seed, PLAIN_LR=rate) for seed in seeds]
            show(f"plain GPT, learning rate {rate}", [bpb for bpb, _ in runs], f"{runs[-1][1]} steps")
    without_network(wanted)


if __name__ == "__main__":
    main()

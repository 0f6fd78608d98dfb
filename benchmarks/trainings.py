"""Real trainings of the CPU trainer at many settings, as data: `python benchmarks/trainings.py [--most N]`.

Each line of data/trainings.jsonl is one training of nanogpt/train.py: what it changed, the val_bpb it reached
and its loss at equal shares of the budget. Other benchmarks measure with these lines.
A training is 3 seconds of one core, without counts (counting alone takes longer than that). How long a step
takes depends on what else the machine does, even in seconds of CPU. So the clock of a training counts what a
step takes on a quiet core, by a formula fitted to the first `MEASURED` trainings, which had a real clock.
The change of training `i` follows from `i`, so a stopped collection goes on where it was, and several may be
joined. It takes about 4 seconds of CPU for each: start it with `nice`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from loop.agents import hyperparameters
from loop.agents.hyperparameters import Hyperparameter, Value
from loop.training.progress import parse

DATA = Path(__file__).parent / "data" / "trainings.jsonl"
TRAINER = Path(__file__).parents[1] / "nanogpt" / "train.py"
BUDGET_S, SHARES, ROWS_JUDGED = 3.0, 40, 32
"""Seconds of CPU for a training, points of its curve, and rows of held-out text that it is measured on."""
FIXED: dict[str, Value] = {"COUNT_ORDER": 0, "COPY_LENGTH": 0}
SPACE = (
    Hyperparameter("DEPTH", 2, 1, 4, 0),
    Hyperparameter("WIDTH", 64, 32, 160, 0, "32"),
    Hyperparameter("MLP_RATIO", 4, 2, 8, 0),
    Hyperparameter("ROWS", 2, 1, 16, 0),
    Hyperparameter("MATRIX_LR", 0.02, 0.004, 0.1, 0),
    Hyperparameter("EMBED_LR", 0.15, 0.02, 1.0, 0),
    Hyperparameter("HEAD_LR", 0.0015, 0.0003, 0.02, 0),
    Hyperparameter("MOMENTUM", 0.95, 0.8, 0.98, 0),
    Hyperparameter("WARMDOWN", 0.6, 0.2, 1.0, 0),
    Hyperparameter("FINAL_LR", 0.03, 0.005, 0.2, 0),
)
"""What is varied, around a start that suits so short a budget."""
START: dict[str, Value] = {h.name: h.value for h in SPACE}
MANY = (1, 1, 2, 2, 3, 3, 5, 10)
"""How many hyperparameters a training changes; one of these."""
REPEATS = 12
"""The first trainings change nothing but the seed: they show the noise."""
MEASURED = 152
"""So many trainings at the start of the data had a clock of CPU seconds on a quiet machine."""
VOCABULARY = 4096


def seconds_of_step(changes: Mapping[str, Value]) -> float:
    """What a step takes on a quiet core: non-negative least squares on the first `MEASURED` trainings, whose
    error is 9%."""
    values = {**START, **changes}
    depth, width, rows, ratio = (float(values[name]) for name in ("DEPTH", "WIDTH", "ROWS", "MLP_RATIO"))
    body, head = depth * width**2 * (4 + 2 * ratio) / 1e6, width * VOCABULARY / 1e6
    of_row = 0.01348 + 0.03035 * body + 0.00077 * head + 0.02571 * depth * width / 1e3
    return 0.00595 + rows * of_row + 0.04646 * body + 0.00707 * head


def setting_of(i: int) -> tuple[dict[str, Value], int]:
    """The values that training `i` changes, and its seed."""
    if i < REPEATS:
        return {}, 1337 + i
    generator = random.Random(i)
    chosen = generator.sample(SPACE, generator.choice(MANY))
    values = {h.name: h.at(generator.random()) for h in chosen}
    if "WIDTH" in values:
        values["WIDTH"] = 32 * generator.randint(1, 5)
    return {name: value for name, value in values.items() if value != START[name]}, 1337


def train(changes: Mapping[str, Value], seed: int, seconds: float, output: IO[str]) -> None:
    """Train in this process, which must be a fresh fork, and print as the trainer does. A step counts as so
    many `seconds`."""
    import runpy

    import evaluation
    import prepare

    class SteadyClock(prepare.Clock):
        """Each step takes as long."""

        def __init__(self) -> None:
            super().__init__()
            self._start = self._last = 0.0
            self._now = lambda: self.steps * seconds

    os.environ |= {"AUTORESEARCH_BUDGET_S": str(BUDGET_S), "AUTORESEARCH_SEED": str(seed)}
    prepare.evaluate, prepare.Clock = _evaluate, SteadyClock  # type: ignore[misc]
    assert evaluation
    text = TRAINER.read_text()
    source = hyperparameters.change(text, {**FIXED, **START, **changes}, hyperparameters.find(text, "cpu"))
    draft = Path(tempfile.gettempdir()) / f"training-{os.getpid()}.py"
    draft.write_text(source)
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path(str(draft), run_name="__main__")
    finally:
        draft.unlink()


def _evaluate(model: Any, data: Any, clock: Any) -> float:
    """Stands in for evaluation.evaluate: it measures on the first rows of the validation text alone."""
    from held_out import HeldOut, held_out_folder

    import evaluation

    held_out = HeldOut(held_out_folder(data.folder))
    held_out.rows = held_out.rows[:ROWS_JUDGED]
    sizes = held_out.token_bytes[held_out.rows]
    held_out.val_rows, held_out.counted, held_out._bytes = ROWS_JUDGED, sizes > 0, [float(sizes.sum()), 1.0]
    value = evaluation.measure(model, held_out)
    print(f"val_bpb:          {value:.6f}", flush=True)
    return value


def run(i: int, seconds: float = 0.0) -> dict[str, Any]:
    """Train number `i` in a fork of this process; its line of the data. A step counts as so many `seconds`,
    0: as many as the formula says."""
    changes, seed = setting_of(i)
    seconds = seconds or seconds_of_step(changes)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as output:
            code = 0
            try:
                train(changes, seed, seconds, output)
            except BaseException:
                traceback.print_exc(file=output)
                code = 1
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        lines = stream.read().splitlines()
    os.waitpid(child, 0)
    points = [point for line in lines if (point := parse(line))]
    value = next((float(line.split()[1]) for line in lines if line.startswith("val_bpb:")), None)
    return {
        "i": i, "changes": changes, "seed": seed, "value": value,
        "steps": points[-1].step if points else 0, "curve": _thinned(points),
        **({} if value is not None else {"why": lines[-1][:200] if lines else "nothing printed"}),
    }  # fmt: skip


def _thinned(points: list[Any]) -> list[float | None]:
    """The loss at each of `SHARES` equal shares of the budget: the first that was printed from there on."""
    curve: list[float | None] = []
    for k in range(1, SHARES + 1):
        curve.append(next((p.loss for p in points if p.fraction >= k / SHARES - 1e-6), None))
    return curve


def read(path: Path = DATA) -> list[dict[str, Any]]:
    """The trainings collected so far, by their numbers."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = {line["i"]: line for line in map(json.loads, lines)}
    return [found[i] for i in sorted(found)]


def again(count: int) -> None:
    """Train `count` of the known ones once more, evenly chosen, each for as many steps, and print how much
    they differ: does the data still hold for the trainer as it is?"""
    from prepare import SLACK_STEPS

    rows = [row for row in read() if row["value"]]
    for row in rows[:: max(1, len(rows) // count)][:count]:
        line = run(row["i"], BUDGET_S / (row["steps"] - SLACK_STEPS - 0.5))
        value = line["value"] or math.nan
        print(
            f"{row['i']:4} {row['value']:.4f} then, {value:.4f} now: {value - row['value']:+.4f}; "
            f"{row['steps']} steps then, {line['steps']} now {line.get('why', '')}",
            flush=True,
        )


def main() -> None:
    """Train what is missing, one after the other, and add each line as soon as it is known."""
    global TRAINER
    parser = argparse.ArgumentParser(description="Collect real trainings of the CPU trainer.")
    parser.add_argument("--most", type=int, default=300)
    parser.add_argument("--trainer", type=Path, default=TRAINER, help="the train.py to use")
    parser.add_argument("--again", type=int, default=0, help="train so many of the known ones again")
    options = parser.parse_args()
    TRAINER = options.trainer.resolve()
    sys.path.insert(0, str(TRAINER.parent))
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    import torch

    import prepare

    torch.set_num_threads(1)
    prepare.prepare()
    if options.again:
        return again(options.again)
    done = {line["i"] for line in read()}
    for i in range(options.most):
        if i not in done:
            line = json.dumps(run(i))
            with DATA.open("a") as file:
                file.write(f"{line}\n")
            print(line[:160], flush=True)


if __name__ == "__main__":
    main()

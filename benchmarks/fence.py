"""What the fence costs: the speed of training behind it and outside, and the start of a training.

    python -m benchmarks.fence [speed] [start] [calls]

Runs behind the fence and outside take turns, so that a machine that grows slower weighs on both. Figures and
machine: docs/benchmarks.md.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loop.records.training_folder import Spec, TrainingFolder
from loop.training import fence, supervisor

REPEATS = 15
STEPS = """
import time, torch
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 256))
optimizer = torch.optim.AdamW(model.parameters())
x = torch.randn(512, 256)
def step():
    loss = (model(x) - x).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
for _ in range(20):
    step()
began = time.process_time()
for _ in range(200):
    step()
print("seconds", time.process_time() - began)
"""
"""Small steps of training on one thread, in seconds of its processor: other work matters less to these."""
CALLS = """
import os, time
began = time.process_time()
for _ in range(100_000):
    os.close(os.open("train.py", os.O_RDONLY))
print("seconds", time.process_time() - began)
"""
"""Opening files: what the filter of system calls and Landlock slow down most."""
NOTHING = "import time; print('seconds', time.time() - float(__import__('os').environ['BEGAN']))"
"""How long it takes until the first line of a trainer runs."""


async def seconds(folder: Path, code: str, fenced: bool) -> float:
    """What a trainer prints as its seconds."""
    slot, scratch = folder / "slot", folder / "s"
    slot.mkdir(exist_ok=True)
    (slot / "train.py").write_text(code)
    files, command = TrainingFolder(folder / "run"), [sys.executable, "train.py"]
    variables = fence.make_fresh_folders(scratch, cache=folder / "c", data=[], environ=os.environ)
    support = fence.detect() if fenced else None
    around = fence.build(support, os.environ, command=command, data=[], write=[slot, scratch])
    standby = supervisor.Standby(folder / "lock")
    await asyncio.sleep(0.2)  # it is up before it is needed, as in the loop
    environment = fence.environment(os.environ, {**variables, "BEGAN": str(time.time())})
    spec = Spec(
        command, str(slot), environment, str(files.log), str(files.exit), str(files.supervisor), 120.0,
        commit="c", fence=around, folders=[str(slot), str(scratch)], disk_gb=10.0, memory_gb=10.0,
    )  # fmt: skip
    await supervisor.ended(standby.start(files, spec))
    log = files.end_of_log()
    found = [line.split()[1] for line in log.splitlines() if line.startswith("seconds ")]
    if not found:
        sys.exit(f"the trainer said: {log}")
    return float(found[0])


def compare(what: str, code: str, unit: float, suffix: str) -> None:
    """Print the median of several runs behind the fence and outside, and how surely they differ."""
    found: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(prefix="fence-") as folder:
        for turn in range(2 * REPEATS + 2):
            fenced = bool(turn % 2)
            took = asyncio.run(seconds(Path(folder), code, fenced))
            if turn >= 2:  # the first of both read files that nobody has read before
                found[fenced].append(took)
    pairs = [inside / outside - 1 for inside, outside in zip(found[True], found[False], strict=True)]
    error = statistics.stdev(pairs) / len(pairs) ** 0.5
    print(
        f"{what:<42} outside {statistics.median(found[False]) * unit:8.2f} {suffix}, behind the fence "
        f"{statistics.median(found[True]) * unit:8.2f} {suffix}; best {min(found[False]) * unit:.2f} and "
        f"{min(found[True]) * unit:.2f}; {100 * statistics.mean(pairs):+.1f}% +- {100 * error:.1f}%"
    )


def speed() -> None:
    """Training."""
    compare("200 steps of training, processor time", STEPS, 1e3, "ms")


def start() -> None:
    """From the engine's order to the trainer's first line."""
    compare("start of a training", NOTHING, 1e3, "ms")


def opening() -> None:
    """System calls."""
    compare("opening and closing a file", CALLS, 1e6 / 100_000, "us")


PARTS: dict[str, Callable[[], None]] = {"speed": speed, "start": start, "calls": opening}

if __name__ == "__main__":
    print(f"fence: {fence.detect()}, {REPEATS} runs each, in turns; load {os.getloadavg()[0]:.1f}")
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()

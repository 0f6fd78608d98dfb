"""What many seats on this machine cost the engine, and how busy it keeps them. All: about fifteen minutes.

    python -m benchmarks.fleet [SEATS ...] [watching]      (default: 1 8 32 watching)

Real engines, processes, git and journals; only training and thinking are sleeps, scaled down. The start of a
training is not, so real seats are busier than these. Figures and machine: docs/fleet.md.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.engine import TRAINER, Thinker, trained
from loop import events as ev
from tests.conftest import make_repository
from tests.loop.scripted import Bench

TRAINING_S, THINKING_S = 300.0, 60.0
SCALES = {1: 1 / 20, 8: 1 / 5, 32: 1 / 4}
"""By how much both are scaled down for so many seats. This machine's processors bound how many trainings can
start a second: with more seats each has to train longer."""
ROUNDS = {1: 8, 8: 5, 32: 3}
"""Trainings on each seat."""


LONG = TRAINER.replace("A_59 = 0.0", "\n\n\n".join(f"A_{n} = 0.0" for n in range(59, 400)))
"""The trainer of benchmarks/engine.py with room for more experiments."""


class Busy(NamedTuple):
    """How busy the seats were, from when all were taken first until the last idea was asked for."""

    share: float
    gaps_s: list[float]


def scaled(seats: int, folder: Path) -> None:
    """Run a whole research on so many seats and print how busy they were and what the engine used."""
    scale = SCALES.get(seats, 1 / 4)
    config = f"budget_s = {TRAINING_S * scale}\nrule = 'improved'\nbaseline_runs = 1\nsandbox = 'off'\n"
    root = make_repository(folder / f"fleet-{seats}", LONG, config)
    count = ROUNDS.get(seats, 3) * seats
    process = psutil.Process()

    async def run() -> tuple[Bench, float, float]:
        bench = Bench(root, Thinker(THINKING_S * scale, better=20), max_experiments=count, workers=seats)
        cpu, began = sum(process.cpu_times()[:2]), time.monotonic()
        await bench.run()
        return bench, sum(process.cpu_times()[:2]) - cpu, time.monotonic() - began

    bench, cpu_s, wall_s = asyncio.run(run())
    found = busy(bench, root, seats)
    gaps = sorted(found.gaps_s)
    trainings = len(bench.events(ev.TrainingFinished))
    kept = bench.engine.state.kept
    print(
        f"| {seats} | {trainings} | {found.share:.1%} | {1000 * statistics.median(gaps):.0f} / "
        f"{1000 * gaps[int(0.99 * (len(gaps) - 1))]:.0f} ms | {1000 * cpu_s / trainings:.0f} ms "
        f"| {100 * cpu_s / wall_s:.1f}% ({scale:g} of the time) | {process.memory_info().rss / 2**20:.0f} MB "
        f"| {kept} of {bench.engine.state.rows} |",
        flush=True,
    )


def busy(bench: Bench, root: Path, seats: int) -> Busy:
    """Seat time with a trainer in it, and the gaps between a trainer's end and the next one's start."""
    started = [(r.t, r.event) for r in bench.records if isinstance(r.event, ev.TrainingStarted)]
    ended = {
        (r.event.n, r.event.training): r.t for r in bench.records if isinstance(r.event, ev.TrainingFinished)
    }
    first = next(
        t for t, _ in started
        if sum(s <= t < ended[e.n, e.training] for s, e in started) == seats
    )  # fmt: skip
    last = max(r.t for r in bench.records if isinstance(r.event, ev.ExperimentStarted))
    used = sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in trained(root))
    by_seat: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for t, event in started:
        by_seat[event.seat].append((t, ended[event.n, event.training]))
    gaps = [
        b[0] - a[1]
        for times in by_seat.values()
        for a, b in itertools.pairwise(times)
        if first <= a[1] and b[0] <= last
    ]
    return Busy(used / (seats * (last - first)) if last > first else 1.0, gaps or [0.0])


def watching(folder: Path, seats: int = 8, seconds: float = 60.0) -> None:
    """Measure the engine at full speed while so many trainers print three steps a second each.

    All of them train the unchanged code.
    """
    config = f"budget_s = 3600\nrule = 'improved'\nbaseline_runs = {seats}\nsandbox = 'off'\n"
    root = make_repository(folder / "watching", LONG, config)
    process = psutil.Process()

    async def run() -> float:
        bench = Bench(root, Thinker(0.0), workers=seats)
        running = asyncio.create_task(bench.run())
        views = bench.engine.state.live.seats
        while len(views) < seats or not all(view.progress for view in views.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        cpu, began = sum(process.cpu_times()[:2]), time.monotonic()
        await asyncio.sleep(seconds)
        used = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - began)
        bench.engine.stop("measured", now=True)
        await running
        return used

    share = 100 * asyncio.run(run())
    print(f"engine while {seats} trainers print three steps a second: {share:.1f}% of a core", flush=True)


def main(words: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        print(
            "| seats | trainings | busy | gap, median / p99 | engine, a training | engine | memory | kept |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for word in words or ["1", "8", "32", "watching"]:
            if word == "watching":
                watching(folder)
            else:
                scaled(int(word), folder)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What a Ray cluster costs: busy share of its seats, gaps between trainings, processor time of the engine.

    python -m benchmarks.fleet_ray [SECONDS] [ROUNDS]      (8 seats; by default 15 s a training, 5 on each)

A real cluster on this machine (a head and four machines with two GPUs each that are only numbers), the real
engine, its helper, actors, fences and supervisors; only training is a sleep. Figures: docs/fleet.md.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.engine import TRAINER, Thinker
from loop import events as ev
from loop.training.ray.executor import RayExecutor
from tests.conftest import make_repository
from tests.loop.scripted import Bench
from tests.loop.training.ray.cluster import GPUS, ray_cluster

MACHINES = 4
SEATS = MACHINES * GPUS


async def research(root: Path, rounds: int) -> tuple[Bench, float, float]:
    """A run; returns it with the processor seconds of the engine and of its helper."""
    flags = {"max_experiments": rounds * SEATS, "baseline_runs": 1, "ahead": 2 * SEATS, "stop_doomed": False}
    bench = Bench(root, Thinker(0.0), make=RayExecutor, **flags)  # type: ignore[arg-type]
    executor = bench.engine.executor
    assert isinstance(executor, RayExecutor)
    helper, before = psutil.Process(executor._link.helper), sum(os.times()[:2])
    helper_before, used = sum(helper.cpu_times()[:2]), 0.0
    running = asyncio.create_task(bench.run())
    while not running.done():
        await asyncio.wait({running}, timeout=1)
        if helper.is_running():
            used = sum(helper.cpu_times()[:2]) - helper_before
    running.result()
    return bench, sum(os.times()[:2]) - before, used


def spans(bench: Bench) -> dict[int, list[tuple[float, float]]]:
    """When each seat trained, by the trainers' own clocks; without the baseline, which trains alone."""
    found: dict[int, list[tuple[float, float]]] = {}
    for started in bench.events(ev.TrainingStarted):
        log = (bench.paths.training(started.n, started.training) / "run.log").read_text()
        times = [re.findall(rf"^{word}: ([\d.]+)", log, re.MULTILINE)[0] for word in ("began", "ended")]
        if started.n > 1:
            found.setdefault(started.seat, []).append((float(times[0]), float(times[1])))
    return found


def main(seconds: float = 15.0, rounds: float = 5) -> None:
    with tempfile.TemporaryDirectory() as folder, ray_cluster(Path(folder), MACHINES):
        root = make_repository(Path(folder) / "repo", TRAINER, f"budget_s = {seconds}\n")
        os.environ["XDG_RUNTIME_DIR"] = folder
        began = time.monotonic()
        bench, engine_s, helper_s = asyncio.run(research(root, int(rounds)))
        wall = time.monotonic() - began
        by_seat = spans(bench)
        gaps = sorted(b[0] - a[1] for seat in by_seat.values() for a, b in pairwise(sorted(seat)))
        first = min(seat[0][0] for seat in by_seat.values())
        lasts = [max(seat)[1] for seat in by_seat.values()]
        busy = sum(end - start for seat in by_seat.values() for start, end in seat)
        share = busy / sum(last - first for last in lasts)
        load = os.getloadavg()[1]
        print(f"{SEATS} seats, {seconds:g} s a training, {len(gaps)} gaps, load of the machine {load:.1f}")
        modelled = 300 / (300 + statistics.fmean(gaps))
        print(f"seats busy {share:.1%}; with the same gaps and 300 s a training {modelled:.1%} (modelled)")
        print(f"gap: median {statistics.median(gaps):.2f} s, 90% {gaps[len(gaps) * 9 // 10]:.2f} s")
        print(f"engine {engine_s / wall:.1%} of a core, its helper {helper_s / wall:.1%}")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))

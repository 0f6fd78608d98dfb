"""What the engine costs: gaps between trainers, busy share, processor and memory, attaching, events a second,
and how long its event loop stands still while locks are held.

    python -m benchmarks.engine [gap] [busy] [idle] [attach] [events] [block]      (all of them: six minutes)

Real engines, processes, journals and sockets; only training and thinking are sleeps. Figures and machine:
docs/benchmarks.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from loop import events as ev
from loop.agents.base import Agent, Emit, Proposal, ResearchContext
from loop.client import Client
from loop.paths import RunPaths
from loop.service import attach, launch
from loop.service.server import Server
from loop.state import RunState
from tests.conftest import make_repository
from tests.loop.scripted import Bench

TRAINER = """\
import os, time
print(f"began: {time.time():.4f}", flush=True)
LINES
budget = float(os.environ["AUTORESEARCH_BUDGET_S"])
until, step = time.monotonic() + budget, 0
while (left := until - time.monotonic()) > 0:
    step += 1
    done = 100 * (1 - left / budget)
    print(f"step {step:05d} ({done:.1f}%) | loss: 2.0 | tok/sec: 100 | remaining: {left:.1f}s", flush=True)
    time.sleep(min(0.3, left))
print("---")
print(f"val_bpb: {4 + sum(v for k, v in globals().items() if k.startswith('A_')):.6f}")
print(f"ended: {time.time():.4f}")
""".replace("LINES", "\n\n\n".join(f"A_{n} = 0.0" for n in range(60)))
C = "c" * 40
SCALE = 1 / 20


class Thinker:
    """Proposes another line after `think_s`, every `better`th a better one; `serial`: begins to think only
    when nothing trains."""

    name, model = "thinker", ""
    secrets: tuple[str, ...] = ()

    def __init__(self, think_s: float, serial: bool = False, better: int = 5) -> None:
        self.think_s, self.serial, self.better = think_s, serial, better
        self.state: RunState | None = None

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        while self.serial and self.state and self.state.under_way:  # noqa: ASYNC110 - a state has no event
            await asyncio.sleep(0.002)
        await asyncio.sleep(self.think_s)
        line = f"A_{context.n} = "
        better = f"{line}{-0.001 if context.n % self.better == 0 else 0.001}"
        return Proposal(better, context.source.replace(f"{line}0.0", better))

    async def close(self) -> None:
        pass


@contextlib.contextmanager
def repository(budget_s: float) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        yield make_repository(Path(folder) / "repo", TRAINER, f"budget_s = {budget_s}\nrule = 'improved'\n")


def trained(root: Path) -> list[tuple[float, float]]:
    """The times at which each trainer ran its first and its last line, in order."""
    times = []
    for log in sorted((root / ".autoresearch/t/experiments").glob("*/training-*/run.log")):
        found = dict(re.findall(r"^(began|ended): (\S+)$", log.read_text(), re.MULTILINE))
        times.append((float(found["began"]), float(found["ended"])))
    return sorted(times)


def loop(root: Path, agent: Thinker, experiments: int) -> list[tuple[float, float]]:
    async def run() -> None:
        bench = Bench(root, agent, max_experiments=experiments)
        agent.state = bench.engine.state
        await bench.run()

    asyncio.run(run())
    return trained(root)


def gap(experiments: int = 40) -> None:
    """Measure the seconds between one trainer's last line and the next one's first, with a proposal ready."""
    with repository(0.4) as root:
        times = loop(root, Thinker(0.0), experiments)
    gaps = sorted(b[0] - a[1] for a, b in itertools.pairwise(times))
    print(
        f"gap between trainers: median {statistics.median(gaps) * 1000:.0f} ms, "
        f"p90 {gaps[int(0.9 * len(gaps))] * 1000:.0f} ms, most {gaps[-1] * 1000:.0f} ms ({len(gaps)} gaps)"
    )


def busy(experiments: int = 10) -> None:
    """Measure the share of the wall clock with a trainer.

    It stands for trainings of 300 s and thinking of 30 s; both are scaled down.
    """
    for serial in (True, False):
        with repository(300 * SCALE) as root:
            times = loop(root, Thinker(30 * SCALE, serial), experiments)
        wall = times[-1][1] - times[0][0]
        share = sum(b - a for a, b in times) / wall
        idle = (wall - sum(b - a for a, b in times)) / (len(times) - 1)
        how = "one after the other" if serial else "proposing meanwhile"
        between = f"{idle * 1000:.0f} ms idle between two trainings"
        print(f"busy, {how}: {100 * share:.1f}% of {wall:.0f} s ({between})")


def idle(seconds: float = 60.0) -> None:
    """Measure processor time and memory of a real engine while its trainer prints three steps a second."""
    with repository(3600.0) as root:
        paths = RunPaths(root, "t")
        launch.start_detached(paths, {"agent": "search"})
        found = attach.info(paths)
        assert found is not None
        engine = psutil.Process(found.pid)
        time.sleep(8)
        before, began = engine.cpu_times(), time.monotonic()
        supervisor = next(p for p in engine.children() if p.children())
        beside = supervisor.cpu_times()
        time.sleep(seconds)
        wall, after, beyond = time.monotonic() - began, engine.cpu_times(), supervisor.cpu_times()
        used = after.user + after.system - before.user - before.system
        watched = beyond.user + beyond.system - beside.user - beside.system
        memory, watcher = engine.memory_info().rss / 2**20, supervisor.memory_info().rss / 2**20
        engine.terminate()
        psutil.wait_procs([engine], timeout=10)
    print(
        f"while training: engine {100 * used / wall:.2f}% of a core, {memory:.0f} MB; "
        f"supervisor {100 * watched / wall:.2f}%, {watcher:.0f} MB"
    )


def history(experiments: int) -> Iterator[ev.DurableEvent]:
    """A run of so many experiments, as an engine would have recorded it: hardly two say the same."""
    yield ev.RunCreated("t", "/r", C, "train.py", ["python", "train.py"])
    yield ev.EngineStarted(1, "0", "claude", "some-model")
    parent, best = C, 1.2
    for n in range(1, experiments + 1):
        commit, value = f"{n:040x}", round(1.2 + 0.01 * random.random(), 6)
        status: ev.Status = "keep" if n % 10 == 1 else "discard"
        seconds, total = round(300 + random.random(), 1), 325 + random.random()
        summary: dict[str, float | str] = {
            "val_bpb": value, "training_seconds": seconds, "total_seconds": round(total, 1) - 1,
            "peak_vram_mb": 45060.2,
            "mfu_percent": round(39 + random.random(), 1), "total_tokens_M": round(499 + random.random(), 1),
            "num_steps": float(random.randrange(900, 1000)), "num_params_M": 50.3, "depth": 8.0,
        }  # fmt: skip
        usage = ev.Usage(
            random.randrange(9000), random.randrange(9000), random.randrange(900), 300, n / 7, n / 3
        )
        yield ev.ExperimentStarted(n, parent)
        yield ev.CandidateCommitted(
            n, commit, parent, f"a change of about this length, number {n}",
            f"why this change number {n} should help, in a sentence that is a little longer", 4, 3, usage,
        )  # fmt: skip
        yield ev.TrainingStarted(n, 1, commit, 1337, 300, needed=f"kept below {best:.4f}")
        yield ev.TrainingFinished(
            n, 1, "finished", "", 0, value, 44.0, seconds, total, summary, True, hidden=value + 0.01,
            data="164dd6c5f041aa0a", about="sympy, vocabulary 4,096, context 256", used_seconds=seconds,
            judge_seconds=round(random.random(), 2), probes=64, model_bytes=2**27 if status == "keep" else 0,
        )  # fmt: skip
        yield ev.Judged(
            n, status, commit, value, 44.0, f"val_bpb {best:.6f} -> {value:.6f}, as sure as it can be",
            round(value - best, 6), f"{20 * random.random():.1f} standard errors", 0.0005, 1, parent,
            short="better" if status == "keep" else "no better",
        )  # fmt: skip
        yield ev.Logged(n, 0)
        if status == "keep":
            parent, best = commit, value


def attaching() -> None:
    """Measure `attach_to` with three sizes of runs, each in a process of its own because of its memory."""
    for experiments in (100, 10_000, 100_000):
        words = [sys.executable, "-m", "benchmarks.engine", f"attach={experiments}"]
        print(subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip())


def attach_to(experiments: int) -> None:
    """Rebuild the state of a long run, then attach to its engine."""
    with repository(1.0) as root:
        paths = RunPaths(root, "t")
        paths.create()
        records = 0
        with paths.journal.open("wb") as file:
            for records, event in enumerate(history(experiments), 1):
                file.write(ev.encode(ev.Record(records, 1.7e9 + records, event)) + b"\n")
        asyncio.run(_attach(root, experiments, records, paths.journal.stat().st_size / 2**20))


async def _attach(root: Path, experiments: int, records: int, size: float) -> None:
    agent: Agent = Thinker(0.0)
    began = time.perf_counter()
    bench = Bench(root, agent)
    rebuilt = time.perf_counter() - began
    assert bench.engine.state.rows == experiments
    gc.collect()
    alone = psutil.Process().memory_info().rss / 2**20
    server = Server(bench.paths.socket())
    await server.open(bench.engine)
    words = [sys.executable, "-m", "benchmarks.engine", f"client={server.path}"]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    cpu = time.process_time()
    out, _ = await process.communicate()
    engine = time.process_time() - cpu
    found = json.loads(out)
    await server.close()
    bench.close()
    memory = psutil.Process().memory_info().rss / 2**20
    print(
        f"{experiments:,} experiments ({records:,} records, {size:.1f} MB): rebuilt in {rebuilt:.2f} s; "
        f"attaching takes the engine {engine:.2f} s and the client {found['seconds']:.2f} s; "
        f"engine {alone:.0f} MB, once it was attached to {memory:.0f} MB, client {found['mb']:.0f} MB"
    )


def client(path: str) -> None:
    """Attach once and say how long it took."""

    async def run() -> None:
        began = time.perf_counter()
        found = await Client.connect(Path(path), timeout_s=60)
        seconds = time.perf_counter() - began
        await found.close()
        print(json.dumps({"seconds": seconds, "mb": psutil.Process().memory_info().rss / 2**20}))

    asyncio.run(run())


def listen(path: str) -> None:
    """Count the records that a client gets up to the first notice, and print the number."""

    async def run() -> None:
        found, count = await Client.connect(Path(path)), 0
        async for record in found.records():
            count += 1
            if isinstance(record.event, ev.Notice):
                break
        print(count)
        await found.close()

    asyncio.run(run())


def events(count: int = 100_000) -> None:
    """Measure how fast live progress reaches two clients, each of which applies it to its state."""

    async def run() -> None:
        with repository(1.0) as root:
            bench = Bench(root, Thinker(0.0))
            server = Server(bench.paths.socket())
            bench.store.listen(server.publish)
            bench.store.record(ev.ExperimentStarted(1, C))
            bench.store.record(ev.TrainingStarted(1, 1, C, seed=1337, budget_s=300))
            await server.open(bench.engine)
            words = [sys.executable, "-m", "benchmarks.engine", f"listen={server.path}"]
            clients = [
                await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE) for _ in range(2)
            ]
            while len(server._clients) < 2:  # noqa: ASYNC110 - they connect from elsewhere
                await asyncio.sleep(0.01)
            began, cpu = time.perf_counter(), time.process_time()
            for i in range(count):
                bench.store.show(ev.Progress(1, 1, i, i / count, 2.5, 1.0, 300.0, 1e6, 39.8, 1.0, 10.0))
                if i % 200 == 0:
                    while max(c.backlog for c in server._clients) > 2**20:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
            for c in server._clients:
                c.put(ev.encode(ev.Record(0, 0.0, ev.Notice("info", "over"))) + b"\n", live=False)
            got = [int((await process.communicate())[0]) for process in clients]
            wall, used = time.perf_counter() - began, time.process_time() - cpu
            assert got == [count + 1] * 2
            await server.close()
            bench.close()
        print(
            f"events to two clients: {count / wall:,.0f} a second each, {1e6 * used / count:.0f} us an event"
        )

    asyncio.run(run())


class Lag:
    """How long an event loop stood still: a task that wants to wake every 5 ms says when it could not."""

    def __init__(self) -> None:
        self.stalls: list[float] = []
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            self.stalls.append(time.perf_counter() - before - 0.005)

    def stop(self) -> list[float]:
        self._task.cancel()
        return sorted(self.stalls)


class Novelist(Thinker):
    """Proposes 400 KB of source each time."""

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        found = await super().propose(context, emit)
        lines = (f"def f_{i}(x: float) -> float:\n    return x * {i} + {context.n}\n" for i in range(8000))
        after = found.source.split("# ---", 1)[0] + "# ---\n" + "".join(lines)
        emit(ev.CandidateEdited(context.n, context.path, context.source, after))
        return Proposal(found.description, after)


HOLDER = """\
import fcntl, os, sys, time
root, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
refs = [f"{root}/.git/refs/heads/autoresearch/t.lock", f"{root}/.git/refs/notes/autoresearch.lock"]
while time.monotonic() < until:
    for name in refs:
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL))
        except OSError:
            continue
    with open(f"{root}/.autoresearch/results.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        time.sleep(1.0)
    for name in refs:
        if os.path.exists(name):
            os.unlink(name)
    time.sleep(0.2)
"""


def block(experiments: int = 8) -> None:
    """Measure how long the event loop stands still.

    Meanwhile another process holds the locks of the run's branch, of the notes and of results.tsv for a
    second at a time, the audit looks through 400 KB, and rows are written.
    """

    async def run(root: Path) -> list[float]:
        agent = Novelist(0.0)
        bench = Bench(root, agent, max_experiments=experiments)
        holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, str(root), "60")
        lag = Lag()
        await bench.run()
        if holder.returncode is None:
            holder.kill()
        await holder.wait()
        return lag.stop()

    with repository(0.5) as root:
        stalls = asyncio.run(run(root))
    print(
        f"event loop with locks held and 400 KB to audit: longest stall {1000 * stalls[-1]:.0f} ms, "
        f"p99.9 {1000 * stalls[int(0.999 * (len(stalls) - 1))]:.0f} ms ({len(stalls):,} looks)"
    )


PARTS: dict[str, Callable[[], None]] = {
    "gap": gap, "busy": busy, "idle": idle, "attach": attaching, "events": events,
    "block": block,
}  # fmt: skip


def main(words: list[str]) -> None:
    for word in words or PARTS:
        name, _, value = word.partition("=")
        if name == "client":
            client(value)
        elif name == "listen":
            listen(value)
        elif name == "attach" and value:
            attach_to(int(value))
        else:
            PARTS[name]()
        sys.stdout.flush()


if __name__ == "__main__":
    os.environ["XDG_RUNTIME_DIR"] = os.environ.get("XDG_RUNTIME_DIR") or tempfile.mkdtemp()
    main(sys.argv[1:])

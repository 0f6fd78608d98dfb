"""Thirty days of research in less than an hour: real engines, git and journal, instant trainings.

    python -m benchmarks.soak [EXPERIMENTS]

8,640 experiments of 300 s are thirty days. Meanwhile the disk is full, the engine dies between any two
events, the provider is out or without credit, the clock jumps by hours, `git gc` runs, trainings crash or are
lost, and terminals come and go. tests/e2e/test_soak.py holds a short one to what this prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import psutil
from msgspec import Struct

from loop import engine
from loop import events as ev
from loop.agents.base import AgentFailed, AgentStopped, Emit, Proposal, ResearchContext
from loop.client import Client
from loop.records import results
from loop.records.training_folder import Exit, Spec
from loop.service.server import Server
from loop.store import Store
from loop.training.executor import Ended, Job, Lost, Machine, Show
from loop.training.trainings import Trainings
from tests.conftest import TRAINER, make_repository
from tests.loop.scripted import Bench, ScriptedAgent

MONTH = 8640
TRAINING_S = 300.0


class Killed(BaseException):
    """The engine is gone, without a chance to do anything more."""


class Report(Struct):
    """What a soak has found."""

    experiments: int
    rows: int
    """Rows of results.tsv, and how many of them are there twice or belong to no experiment."""
    wrong_rows: int
    kills: int
    full_disks: int
    outages: int
    half_mb: float
    """Memory of the process at half of the time, and at the end."""
    end_mb: float
    journal_bytes: int
    start_s: float
    """How long the state takes to be rebuilt at the end."""


class Instantly:
    """An executor whose trainings are done at once. Some crash, and some are lost."""

    def __init__(self, chance: random.Random, rows_due: Callable[[], int]) -> None:
        """`rows_due` says how many verdicts are not written down yet."""
        self._chance, self._rows_due = chance, rows_due

    def describe(self) -> Sequence[Machine]:
        return [Machine("soak", fence="full")]

    def capacity(self) -> int:
        return 1

    async def prepare(self, commit: str, show: Show) -> None:
        pass

    async def start(self, job: Job) -> str:
        if job.folder.read_exit(job.commit) is not None:
            return "soak"
        job.folder.reset()
        job.folder.write_spec(Spec([], "", {}, "", "", "", 600.0, commit=job.commit, key=job.key))
        value = 1.0 + int(job.commit[:6], 16) / 2**24 - job.n / 100_000
        steps = "".join(f"step {i} ({i}.0%) | loss: {9 - i / 20:.2f} |\n" for i in range(100))
        job.folder.log.write_text(f"phase: training\n{steps}---\nval_bpb: {value:.6f}\n")
        now, code = time.time(), int(self._chance.random() < 0.05)
        outcome: ev.Outcome = "crashed" if code else "finished"
        ended = Exit(outcome, "exit code 1" if code else "", code, now - TRAINING_S, now)
        job.folder.exit.write_bytes(ev.encode(ended))
        return "soak"

    async def follow(self, job: Job) -> Ended | Lost:
        while self._rows_due() > 2:  # noqa: ASYNC110 - they take milliseconds, of 300 s
            await asyncio.sleep(0.001)
        found = job.folder.read_exit(job.commit)
        return Lost("its machine is gone") if found is None or self._chance.random() < 0.02 else Ended(found)

    async def stop(self, job: Job) -> None:
        pass

    async def sweep(self, known: Collection[str]) -> int:
        return 0

    def processes(self) -> list[int]:
        return []

    async def close(self) -> None:
        pass


class Forgetful(ScriptedAgent):
    """An agent that does not remember what it was asked: a test's does, with all experiments each time."""

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        await asyncio.sleep(0)
        return self.script(context)


class Soak:
    """One run of so many experiments."""

    def __init__(self, folder: Path, experiments: int, seed: int) -> None:
        self.chance = random.Random(seed)
        self.root = make_repository(folder / "repo", TRAINER)
        self.experiments = experiments
        self.kills = self.full_disks = self.outages = 0
        self.half_mb = 0.0
        self.shift_s = 0.0
        """By how much the clock differs from the real one."""

    def propose(self, context: ResearchContext) -> Proposal:
        """An idea, unless the provider is out."""
        luck = self.chance.random()
        if luck < 0.02:
            self.outages += 1
            raise AgentStopped("no credit") if luck < 0.005 else AgentFailed("overloaded")
        source = re.sub(r"^X = .*$", f"X = {1 + self.chance.random():.12f}", context.source, flags=re.M)
        return Proposal(f"idea {context.n}", source, "it may help")

    def bench(self) -> Bench:
        """The next engine of the run, on a disk that is full now and then; some writes are its last."""
        bench = Bench(
            self.root, Forgetful(self.propose), rule="improved", baseline_runs=1, fix_attempts=1,
            max_experiments=self.experiments, max_crashes=10**6, combine=0, audit="report", ahead=2,
        )  # fmt: skip
        bench.store._listeners.clear()
        executor = Instantly(self.chance, lambda: len(bench.engine.state.rows_due))
        bench.engine.executor = executor
        bench.engine.trainings = Trainings(executor, bench.store.show)
        append = bench.store._journal.append

        def unreliable(event: ev.DurableEvent) -> ev.Record:
            luck = self.chance.random()
            if luck < 0.002:
                self.full_disks += 1
                raise OSError(errno.ENOSPC, "No space left on device")
            self.shift_s += TRAINING_S if isinstance(event, ev.TrainingFinished) else 0.0
            self.shift_s += self.chance.choice((-7200.0, 7200.0)) if luck > 0.999 else 0.0
            record = append(event)
            if luck < 0.004:
                raise Killed
            return record

        bench.store._journal.append = unreliable  # type: ignore[method-assign]
        return bench

    async def run_once(self) -> bool:
        """One engine until it is killed or done; whether it is done."""
        bench = self.bench()
        server = Server(bench.paths.socket())
        await server.open(bench.engine)
        bench.store.listen(server.publish)
        around = asyncio.create_task(self.meddle(bench, server))
        try:
            await bench.engine.run()
            return True
        except Killed:
            self.kills += 1
            return False
        finally:
            around.cancel()
            await asyncio.gather(around, return_exceptions=True)
            await server.close()
            bench.close()

    async def meddle(self, bench: Bench, server: Server) -> None:
        """What happens around an engine: terminals, git gc, and a human who lets a paused run go on."""
        for turn in range(10**9):
            await asyncio.sleep(0.2)
            if bench.engine.state.rows > self.experiments / 2 and not self.half_mb:
                self.half_mb = memory_mb()
            with contextlib.suppress(OSError, Killed):
                if bench.engine.state.paused is not None:
                    bench.store.record(ev.Resumed())
            if turn % 20 == 19:
                client = await Client.connect(server.path)
                await client.close()
            if turn % 200 == 199:
                gone = await asyncio.create_subprocess_exec("git", "gc", "--quiet", cwd=self.root)
                await gone.wait()

    def report(self) -> Report:
        bench = Bench(self.root, ScriptedAgent())
        state, journal = bench.engine.state, bench.paths.journal
        lines = results.lines(bench.paths.results)[1:]
        due = sorted(e.row for e in state.experiments if e.judged)
        bench.close()
        began = time.perf_counter()
        Store.open(journal).close()
        return Report(
            state.rows, len(lines), len(set(lines) ^ set(due)) + len(lines) - len(set(lines)), self.kills,
            self.full_disks, self.outages, self.half_mb, memory_mb(), journal.stat().st_size,
            time.perf_counter() - began,
        )  # fmt: skip


def memory_mb() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss / 2**20)


@contextlib.contextmanager
def clock_of(soak: Soak) -> Iterator[None]:
    """While this lasts, the clock runs as the soak says, and nobody waits for a disk."""
    real, retry = time.time, engine.RETRY_S
    time.time = lambda: real() + soak.shift_s
    engine.RETRY_S = 0.01
    try:
        yield
    finally:
        time.time, engine.RETRY_S = real, retry


def run(folder: Path, experiments: int, seed: int = 1) -> Report:
    """Research to the end, with as many engines as it takes."""
    soak = Soak(folder, experiments, seed)
    with clock_of(soak):
        while True:
            with contextlib.suppress(OSError, Killed):  # it died while it started
                if asyncio.run(soak.run_once()):
                    break
    return soak.report()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="soak-") as at:
        began = time.perf_counter()
        found = run(Path(at), int(sys.argv[1]) if sys.argv[1:] else MONTH)
        print(f"{found} in {time.perf_counter() - began:.0f} s")
        subprocess.run(["git", "fsck", "--strict"], cwd=Path(at) / "repo", check=True)

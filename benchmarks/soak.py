"""Thirty days of research in less than an hour: real engines, git and journal, instant trainings.

    python -m benchmarks.soak [EXPERIMENTS]

8,640 experiments of 300 s are thirty days. Meanwhile the disk is full, the provider is out or without credit,
the clock jumps by hours, `git gc` runs, trainings crash or are lost, and terminals come and go. Each engine
is a process of its own. In the first part of the time they are killed between any two events, one after the
other; the last one is left to live, so that its memory is one engine's. tests/e2e/test_soak.py holds a short
soak to what this prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from statistics import median

import msgspec
import psutil
from msgspec import Struct, field

from loop import engine, memory
from loop import events as ev
from loop.agents.base import AgentFailed, AgentStopped, Emit, Proposal, ResearchContext
from loop.records import results, sealed
from loop.records.training_folder import Exit, Spec
from loop.service.server import Server
from loop.store import Store
from loop.training.executor import Ended, Job, Lost, Machine, Show
from loop.training.trainings import Trainings
from tests.conftest import TRAINER, make_repository
from tests.loop.scripted import Bench, ScriptedAgent

MONTH = 8640
TRAINING_S = 300.0
KILLS_END = 0.3
"""After this share of the experiments no engine is killed any more: at half of them the last one is warm."""
SAMPLES = 400
"""How often memory is measured, about."""
WINDOW = 0.05
"""The share of the experiments over which memory is compared."""


class Happened(Struct):
    """What has happened so far. It is written down when an engine dies and read by the next one."""

    lives: int = 0
    """Engines that were started."""
    kills: int = 0
    full_disks: int = 0
    outages: int = 0
    shift_s: float = 0.0
    """By how much the clock differs from the real one."""
    memory: list[tuple[int, float]] = field(default_factory=list)
    """Experiments with a verdict, and the megabytes of the engine's process by then."""


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
    """Memory of the engine's process around half of the time, and just before the end: the median of a
    twentieth of the time, as each verdict takes some megabytes for a moment."""
    end_mb: float
    journal_bytes: int
    """With its sealed part."""
    start_s: float
    """How long the state takes to be rebuilt at the end."""


class Now:
    """Says that it is time for something, once in about so many times, and in twice as many at the latest."""

    def __init__(self, chance: random.Random, times: int) -> None:
        self._chance, self._times = chance, times
        self._left = chance.randrange(2 * times)

    def __call__(self) -> bool:
        self._left -= 1
        if self._left >= 0:
            return False
        self._left = self._chance.randrange(2 * self._times)
        return True


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
        now, code = time.time(), int(job.n > 1 and self._chance.random() < 0.05)
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


class Life:
    """One engine, from its start until it is killed or the research is done."""

    def __init__(self, folder: Path, experiments: int, happened: Happened) -> None:
        self.folder, self.experiments, self.happened = folder, experiments, happened
        self.chance = random.Random(happened.lives)
        self.killed = Now(self.chance, 300)
        self.disk_full = Now(self.chance, 400)
        self.clock_jumps = Now(self.chance, 1000)
        self.provider_out = Now(self.chance, 50)

    def propose(self, context: ResearchContext) -> Proposal:
        """An idea, unless the provider is out."""
        if self.provider_out():
            self.happened.outages += 1
            raise AgentStopped("no credit") if self.chance.random() < 0.25 else AgentFailed("overloaded")
        source = re.sub(r"^X = .*$", f"X = {1 + self.chance.random():.12f}", context.source, flags=re.M)
        return Proposal(f"idea {context.n}", source, "it may help")

    def bench(self) -> Bench:
        """The engine, on a disk that is full now and then; some writes are its last."""
        bench = Bench(
            self.folder / "repo", Forgetful(self.propose), rule="improved", baseline_runs=1, fix_attempts=1,
            max_experiments=self.experiments, max_crashes=10**6, combine=0, audit="report", ahead=2,
        )  # fmt: skip
        bench.store._listeners.clear()
        executor = Instantly(self.chance, lambda: len(bench.engine.state.rows_due))
        bench.engine.executor = executor
        bench.engine.trainings = Trainings(executor, bench.store.show)
        append = bench.store._journal.append

        def unreliable(event: ev.DurableEvent) -> ev.Record:
            if self.disk_full():
                self.happened.full_disks += 1
                raise OSError(errno.ENOSPC, "No space left on device")
            self.happened.shift_s += TRAINING_S if isinstance(event, ev.TrainingFinished) else 0.0
            self.happened.shift_s += self.chance.choice((-7200.0, 7200.0)) if self.clock_jumps() else 0.0
            record = append(event)
            if self.killed() and bench.engine.state.rows < KILLS_END * self.experiments:
                self.happened.kills += 1
                self.die()
            return record

        bench.store._journal.append = unreliable  # type: ignore[method-assign]
        return bench

    def write_down(self) -> None:
        """Leave to the next engine what has happened."""
        happened_in(self.folder).write_bytes(msgspec.json.encode(self.happened))

    def die(self) -> None:
        """Be gone, without a chance to do anything more."""
        self.write_down()
        os.kill(os.getpid(), signal.SIGKILL)

    async def live(self) -> None:
        bench = self.bench()
        server = Server(bench.paths.socket())
        await server.open(bench.engine)
        bench.store.listen(server.publish)
        around = asyncio.create_task(self.meddle(bench, server))
        reason = await bench.engine.run()
        print(f"the last engine ended: {reason}", flush=True)
        around.cancel()
        await asyncio.gather(around, return_exceptions=True)
        await server.close()
        bench.close()
        self.write_down()

    async def meddle(self, bench: Bench, server: Server) -> None:
        """What happens around an engine: terminals, git gc, and a human who lets a paused run go on."""
        for turn in range(10**9):
            await asyncio.sleep(0.2)
            rows = bench.engine.state.rows
            if rows >= len(self.happened.memory) * self.experiments / SAMPLES:
                self.measure(rows)
            with contextlib.suppress(OSError):
                if bench.engine.state.paused is not None:
                    bench.store.record(ev.Resumed())
            if turn % 20 == 19:
                await look_in(server.path)
            if turn % 200 == 199:
                gone = await asyncio.create_subprocess_exec("git", "gc", "--quiet", cwd=self.folder / "repo")
                await gone.wait()

    def measure(self, rows: int) -> None:
        """Note the memory of this process."""
        megabytes = psutil.Process().memory_info().rss / 2**20
        self.happened.memory.append((rows, megabytes))
        if len(self.happened.memory) % 10 == 0:
            print(f"{time.strftime('%H:%M:%S')} {rows:,} verdicts, {megabytes:.1f} MB", flush=True)


async def look_in(socket: Path) -> None:
    """Be a terminal for a moment: take the state, without decoding it, which would count as the engine's."""
    reader, writer = await asyncio.open_unix_connection(str(socket), limit=2**28)
    while not (await reader.readuntil(b"\n")).startswith(b'{"type":"snapshot"'):
        pass
    writer.close()


def happened_in(folder: Path) -> Path:
    return folder / "happened.json"


def read_happened(folder: Path) -> Happened:
    return msgspec.json.decode(happened_in(folder).read_bytes(), type=Happened)


def live(folder: Path, experiments: int) -> None:
    """Be one engine, with a clock that runs as the soak says; nobody waits for a disk."""
    memory.one_heap()  # as an engine's process does
    life, real = Life(folder, experiments, read_happened(folder)), time.time
    time.time = lambda: real() + life.happened.shift_s
    engine.RETRY_S = 0.01
    try:
        asyncio.run(life.live())
    except OSError as error:  # the disk was full while it started
        print(f"an engine could not start: {error}", flush=True)
        life.die()


def run(folder: Path, experiments: int) -> Report:
    """Research to the end, with as many engines as it takes."""
    make_repository(folder / "repo", TRAINER)
    happened_in(folder).write_bytes(msgspec.json.encode(Happened()))
    words = [sys.executable, "-m", "benchmarks.soak", "live", str(folder), str(experiments)]
    for _ in range(experiments):  # far more than it takes
        happened = read_happened(folder)
        happened.lives += 1
        happened_in(folder).write_bytes(msgspec.json.encode(happened))
        ended = subprocess.run(words, cwd=Path(__file__).parents[1], check=False).returncode
        if ended == 0:
            return report(folder, read_happened(folder), experiments)
        if ended != -signal.SIGKILL:
            raise RuntimeError(f"an engine ended with code {ended}")
    raise RuntimeError(f"{experiments} engines have died, and the research is not done")


def report(folder: Path, happened: Happened, experiments: int) -> Report:
    bench = Bench(folder / "repo", ScriptedAgent())
    state, journal = bench.engine.state, bench.paths.journal
    lines = results.lines(bench.paths.results)[1:]
    due = sorted(e.row for e in state.experiments if e.judged)
    bench.close()
    began = time.perf_counter()
    Store.open(journal).close()
    start_s = time.perf_counter() - began
    half, window = experiments / 2, WINDOW * experiments
    half_mb = median(mb for rows, mb in happened.memory if half - window / 2 <= rows <= half + window / 2)
    end_mb = median(mb for rows, mb in happened.memory if rows >= experiments - window)
    return Report(
        state.rows, len(lines), len(set(lines) ^ set(due)) + len(lines) - len(set(lines)), happened.kills,
        happened.full_disks, happened.outages, half_mb, end_mb,
        sum(file.stat().st_size for file in (journal, *sealed.parts(journal))), start_s,
    )  # fmt: skip


def main(words: list[str]) -> None:
    if words[:1] == ["live"]:
        live(Path(words[1]), int(words[2]))
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as at:
        began = time.perf_counter()
        found = run(Path(at), int(words[0]) if words else MONTH)
        print(f"{found} in {time.perf_counter() - began:.0f} s")
        subprocess.run(["git", "fsck", "--strict", "--no-dangling"], cwd=Path(at) / "repo", check=True)


if __name__ == "__main__":
    main(sys.argv[1:])

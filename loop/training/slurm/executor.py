"""The executor for Slurm: each training is a batch job, or an order for a worker that keeps its place.

Engine and machines share a folder. An order (training/remote) lies there, and the machine that carries it out
writes to it; the engine reads. Jobs are named after attempts, so a new engine finds them in the queue. That
an order is never carried out twice, whatever Slurm restarts, is held by its `claim`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import platform
import secrets
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths, owner_only
from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped
from loop.training.executor import Ended, Job, Lost, Machine, Show
from loop.training.local import LocalExecutor
from loop.training.programs import leftovers
from loop.training.remote import mirror, order
from loop.training.remote.mirror import Gone, News, Refused
from loop.training.remote.order import Node, OrderFolder
from loop.training.slurm import queue
from loop.training.slurm.queue import NEVER, OutOfReach, Queue, QueuedJob

LOOK_S = 0.2
"""Seconds between two looks at an order's folder."""
GRACE_S = 10.0
"""A shared folder may show a file only so long after it was written: then a missing report is missed."""
STOP_S = 60.0
"""How long a job may take to end once it was cancelled."""
READ_BYTES = 4 * 2**20
"""Bytes that are read at once."""
MARGIN_MINUTES = 30
"""What a job gets besides a training's time-out: for judging, compiling and preparing data."""


class SlurmExecutor:
    """Runs trainings as batch jobs."""

    def __init__(
        self, settings: Settings, paths: RunPaths, repository: Repository, seats: int | None = None
    ) -> None:
        """Raises `UsageError` when Slurm cannot be used from here."""
        queue.check(settings)
        self._settings, self._paths = settings, paths
        self._repository = repository.again()  # it is read in other threads
        self._capacity = seats or max(1, settings.workers)
        self._run = order.run_name(paths)
        self._session = secrets.token_hex(8)
        self._shared = _shared_folder(settings, paths, self._run)
        self._queue = Queue(f"{self._run}-")
        self._here = LocalExecutor(
            msgspec.structs.replace(settings, sandbox="off"), paths, repository, seats=1
        )  # for data
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One for each attempt: it is held by whoever waits for its end."""
        self._submitting = asyncio.Lock()

    def describe(self) -> Sequence[Machine]:
        name = f"Slurm {self._settings.slurm_partition}".strip()
        fence = "off" if self._settings.sandbox == "off" else "as each machine can"
        return [Machine(name, self._capacity, self._settings.slurm_gres, fence)]

    def capacity(self) -> int:
        return self._capacity

    async def prepare(self, commit: str, show: Show) -> None:
        """On this machine, which mostly has the network that others lack; each makes sure for itself."""
        await self._here.prepare(commit, show)

    async def start(self, job: Job) -> str:
        if mirror.end_of(job) and (note := mirror.read_note(job)):
            return note.place
        folder = self._folder(job.key)
        if not folder.order.exists():
            await asyncio.to_thread(self._write_order, job, folder)
        waits_in = await self._submit(job.key, folder)
        mirror.begin(job, folder.start.read_text(), waits_in)
        return waits_in

    def _folder(self, key: str) -> OrderFolder:
        return OrderFolder(self._shared / key)

    def _write_order(self, job: Job, folder: OrderFolder) -> None:
        """Write an order that is there either whole or not at all."""
        told = order.for_job(
            self._settings,
            job,
            run=self._run,
            session=self._session,
            share=1,
            root=self._settings.node_folder,
        )
        reference = job.reference.read_bytes() if job.reference and job.reference.exists() else None
        temporary = self._shared / f".{job.key}-{secrets.token_hex(4)}"
        temporary.mkdir(mode=0o700)
        files = order.parcel(told, self._repository.packed(job.commit), reference)
        for name, content in {**files, "start": secrets.token_hex(8).encode()}.items():
            (temporary / name).write_bytes(content)
        try:
            temporary.rename(folder.folder)
        except OSError:  # an earlier call, which was cancelled, has written it meanwhile
            shutil.rmtree(temporary, ignore_errors=True)
            if not folder.order.exists():
                raise

    async def _submit(self, key: str, folder: OrderFolder) -> str:
        """Give an order to Slurm, unless it has it already; says where it waits. Raises OSError."""
        async with self._submitting:
            if folder.claim.exists():
                node = _node(folder)
                return node.place if node else "Slurm"
            try:
                jobs = await self._queue.jobs(fresh=True)
            except OutOfReach as error:
                raise OSError(errno.EAGAIN, str(error), "Slurm") from error
            if self._settings.slurm_allocation:
                await self._submit_workers(jobs)
                return "Slurm"
            found = [job.id for job in jobs if job.name == self._name(key)]
            if not found:
                minutes = int(self._settings.timeout * 2 / 60) + MARGIN_MINUTES
                script = self._script("loop.training.remote.node", folder.folder)
                words = queue.options(self._settings, minutes)
                log = folder.folder / "node.log"
                found = [await self._queue.submit(self._name(key), script, words, log)]
                folder.number.write_text(found[0])
            return f"Slurm job {found[0]}"

    async def _submit_workers(self, jobs: list[QueuedJob]) -> None:
        """See to it that as many workers as there are seats wait or run."""
        ours = [job for job in jobs if job.name == self._name("worker")]
        in_vain = [job.id for job in ours if job.state == "PENDING" and job.reason in NEVER]
        await self._queue.cancel(*in_vain)
        missing = self._capacity - len(ours) + len(in_vain)
        script = self._script("loop.training.slurm.worker", self._shared)
        words = queue.options(self._settings)
        for _ in range(missing):
            await self._queue.submit(self._name("worker"), script, words, self._shared / "worker.log")

    def _source(self, key: str) -> _Source:
        name = self._name("worker" if self._settings.slurm_allocation else key)
        return _Source(self._queue, name, self._folder(key), kept=self._settings.slurm_allocation)

    def _name(self, key: str) -> str:
        return f"{self._run}-{key}"

    def _script(self, module: str, folder: Path) -> str:
        python = self._settings.node_python or sys.executable
        return f"#!/bin/sh\nexec '{python}' -P -m {module} '{folder}'\n"

    async def follow(self, job: Job) -> Ended | Lost:
        async with self._locks[job.key]:
            ended: Ended | Lost | None = mirror.end_of(job)
            if ended is None:
                try:
                    ended = await mirror.fill(job, self._source(job.key))
                except Gone as error:
                    ended = Lost(str(error))
                except Refused as error:
                    await self._let_go(job.key)
                    raise OSError(errno.EREMOTEIO, str(error), "Slurm") from error
            await self._let_go(job.key)
        return ended

    async def stop(self, job: Job) -> None:
        folder = self._folder(job.key)
        if not folder.order.exists():
            return
        folder.stop.touch()
        await self._cancel(job.key)
        if not self._locks[job.key].locked():
            await self._let_go(job.key)

    async def _cancel(self, key: str) -> None:
        """Cancel the job of an attempt and wait until it has left the queue; a worker sees `stop`."""
        with contextlib.suppress(OSError):  # what nobody has begun with, no worker is to begin with any more
            self._folder(key).claim.touch(exist_ok=False)
        deadline = time.monotonic() + STOP_S
        with contextlib.suppress(OutOfReach):
            while time.monotonic() < deadline:
                ours = [job.id for job in await self._queue.jobs(fresh=True) if job.name == self._name(key)]
                folder = self._folder(key)
                under_way = folder.node.exists() and not folder.report.exists()
                if not ours and not (self._settings.slurm_allocation and under_way):
                    return
                await self._queue.cancel(*ours)
                await asyncio.sleep(LOOK_S)

    async def _let_go(self, key: str) -> None:
        """Remove what is left of an attempt: its job, if it has one still, and its folder."""
        with contextlib.suppress(OSError):
            self._folder(key).stop.touch()
        await self._cancel(key)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(leftovers.remove, self._folder(key).folder)

    async def sweep(self, known: Collection[str]) -> int:
        try:
            jobs = await self._queue.jobs(fresh=True)
        except OutOfReach:
            return 0
        kept = {self._name(key) for key in (*known, "worker")}
        keys = {path.name for path in self._shared.iterdir() if path.is_dir()} - set(known)
        keys |= {job.name.removeprefix(f"{self._run}-") for job in jobs if job.name not in kept}
        for key in keys:
            await self._let_go(key)
        return len(keys)

    async def _end_idle_workers(self) -> None:
        """Give back the places where nothing trains."""
        busy = set[str]()
        for path in self._shared.glob("[!.]*/claim"):
            with contextlib.suppress(OSError):
                if not OrderFolder(path.parent).report.exists():
                    busy.add(path.read_text())
        with contextlib.suppress(OutOfReach):
            jobs = await self._queue.jobs(fresh=True)
            workers = {job.id for job in jobs if job.name == self._name("worker")}
            await self._queue.cancel(*workers - busy)

    def processes(self) -> list[int]:
        found = []
        for key, lock in self._locks.items():
            node = _node(self._folder(key)) if lock.locked() else None
            if node and node.host == platform.node():
                found.append(node.pid)
        return found

    async def close(self) -> None:
        await self._end_idle_workers()
        await self._here.close()
        self._repository.close()


def _shared_folder(settings: Settings, paths: RunPaths, run: str) -> Path:
    """The folder for the orders of this run. Raises `UsageError`."""
    base = Path(settings.slurm_folder).expanduser() if settings.slurm_folder else paths.folder
    folder = base.absolute() / f"slurm-{run}"
    if "'" in str(folder):
        raise UsageError(f"--slurm-folder must have no ' in its name: {folder}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write {folder} ({error.strerror}): name a folder that all machines share, "
            "with --slurm-folder"
        ) from error
    return folder


def _node(folder: OrderFolder) -> Node | None:
    """Who carries out an order; None before somebody does."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(folder.node.read_bytes(), type=Node)
    return None


class _Source:
    """Reads an order's folder; whether anybody works on it, only Slurm knows."""

    def __init__(self, jobs: Queue, name: str, folder: OrderFolder, *, kept: bool) -> None:
        """`name` is that of the job that carries the order out; `kept`: of the workers, one of which does."""
        self._queue, self._name, self._folder, self._kept = jobs, name, folder, kept

    async def news(self, offset: int) -> News:
        seen_at, pulse = time.monotonic(), b""
        while True:
            ended = self._folder.report.exists()
            log = self._read(self._folder.training.log, offset)
            if log or ended:
                return News(log, ended)
            # A controller that was restarted may not know of a job that runs on: its pulse tells.
            before, pulse = pulse, self._read(self._folder.pulse, 0)
            if pulse != before or await self._is_alive():
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at > GRACE_S or self._is_given_up():
                raise await self._gone()
            await asyncio.sleep(LOOK_S)

    async def read(self, name: str, offset: int) -> bytes:
        return self._read(self._folder.folder / name, offset)

    def _read(self, path: Path, offset: int) -> bytes:
        """Some bytes of a file that a candidate could have put there."""
        with contextlib.suppress(OSError), open(path, "rb", opener=owner_only) as file:
            return os.pread(file.fileno(), READ_BYTES, offset)
        return b""

    def _is_given_up(self) -> bool:
        """It was stopped before anybody began with it."""
        return self._folder.stop.exists() and not self._folder.node.exists()

    async def _is_alive(self) -> bool:
        """Whether Slurm has the job that carries the order out, or is to; also when it cannot be asked."""
        try:
            jobs = await self._queue.jobs()
        except OutOfReach:
            return True
        ours = [job for job in jobs if job.name == self._name]
        if ours and all(job.state == "PENDING" and job.reason in NEVER for job in ours):
            reason = ours[0].reason
            raise Refused(f"job {ours[0].id} will not start ({reason}): {NEVER[reason]}")
        if not self._kept:
            return bool(ours)
        with contextlib.suppress(OSError):
            claimed_by = self._folder.claim.read_text()
            return any(job.id == claimed_by for job in ours)
        return True

    async def _gone(self) -> Gone | Refused:
        """Why there is no result."""
        number = ""
        with contextlib.suppress(OSError):
            number = self._folder.number.read_text()
        state = await self._queue.end_of(number) if number else ""
        job = f"its Slurm job{f' {number}' * bool(number)} ended{f' ({state})' * bool(state)}"
        if self._folder.claim.exists() or self._folder.stop.exists():
            return Gone(f"{job} without a result")
        last = (
            (read_shaped(self._folder.folder / "node.log", 2**20) or b"").decode("utf-8", "replace").strip()
        )
        why = last.splitlines()[-1][:200] if last else f"do all machines share {self._folder.folder.parent}?"
        return Refused(f"{job} before it began: {why}")

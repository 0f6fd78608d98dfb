"""The executor for this machine: trainings run here, each seat in a slot and behind a fence of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import secrets
import shutil
import signal
from collections.abc import Collection, Sequence
from pathlib import Path

import psutil
from msgspec import Struct

from loop.config import Settings
from loop.paths import RunPaths
from loop.records import training_folder
from loop.records.repository import Repository
from loop.records.training_folder import Fence, Spec
from loop.training import fence, prepare, slot, supervisor
from loop.training.executor import Ended, Job, Lost, Place, Show
from loop.training.supervisor import KEY, Standby, Supervisor


class _Found(Struct):
    """A training on this machine that was started or found again."""

    supervisor: Supervisor | None
    """None when the training had ended before it was found again."""
    data: dict[str, slot.Signature]
    """How the training data looked before, where no fence protects it."""


class _Seat:
    """One place to train: its slot, the lock that says it is taken, and the supervisor that stands by."""

    def __init__(self, paths: RunPaths, number: int) -> None:
        self.slot = slot.Slot(paths.slot(number))
        self.scratch = paths.scratch(number)
        self.lock = paths.folder / f"slot-{number}.lock"
        self.standby: Standby | None = None
        """The next training's supervisor. It is started while this one trains: an interpreter takes a while.
        """


class LocalExecutor:
    """Runs trainings in `.autoresearch/<tag>/slots/<seat>` on this machine."""

    def __init__(self, settings: Settings, paths: RunPaths, repository: Repository, seats: int = 1) -> None:
        """Raises `UsageError` when the settings require a fence that this machine does not have."""
        self._settings, self._paths = settings, paths
        self._repository = Repository.discover(repository.root)  # read in threads: a handle of its own
        self._seats = [_Seat(paths, number) for number in range(seats)]
        self._level = fence.choose(settings.sandbox)
        self._uv = prepare.uv_environment(settings.train_command, paths.folder / "venv")
        self._data = fence.data_folders(os.environ, settings.data)
        self._prepared = False
        self._under_way: dict[str, _Found] = {}

    def describe(self) -> Sequence[Place]:
        level = "off" if self._level is None else str(self._level)
        return [Place(platform.node(), self.capacity(), fence=level)]

    def capacity(self) -> int:
        return len(self._seats)

    async def prepare(self, commit: str, show: Show) -> None:
        if self._prepared:
            return
        command = self._settings.command(self._settings.prepare_command)
        commands = [["uv", "sync"]] if self._uv else []
        commands += [command] if command else []
        where = self._seats[0].slot
        if commands:
            await asyncio.to_thread(where.export, self._repository, commit)
        for words in commands:
            await prepare.run(words, where.folder, show, self._uv)
        self._prepared = True

    async def start(self, job: Job) -> None:
        seat = self._seats[job.seat]
        found = await supervisor.locate(job.folder, seat.lock)
        # Landlock keeps data as it is; without it, what a training changed must at least be seen.
        watched = self._level is None or self._level.landlock < 3
        data = await asyncio.to_thread(slot.inventory, self._data) if watched else {}
        if found is None and _interrupted(job):
            supervisor.sweep(job.folder)
            await asyncio.to_thread(seat.slot.export, self._repository, job.commit)
            found = self._start(seat, job)
        self._under_way[job.key] = _Found(found, data)
        if found:
            seat.standby = seat.standby or Standby(seat.lock)

    def _start(self, seat: _Seat, job: Job) -> Supervisor:
        """Under the supervisor that stands by, or a new one if that has been killed."""
        nonce = secrets.token_hex(16)
        spec = self._spec(seat, job, training_folder.proof_of(nonce))
        standby, seat.standby = seat.standby, None
        if standby:
            with contextlib.suppress(BrokenPipeError):
                return standby.start(job.folder, spec, nonce)
            standby.dismiss()
        return Standby(seat.lock).start(job.folder, spec, nonce)

    async def follow(self, job: Job) -> Ended | Lost:
        training = self._under_way[job.key]
        if training.supervisor:
            await supervisor.ended(training.supervisor)
        del self._under_way[job.key]
        after = await asyncio.to_thread(slot.inventory, self._data) if training.data else {}
        damaged = next((path for path, at in training.data.items() if after.get(path) != at), "")
        found = job.folder.read_exit(job.commit)
        if found is None or _interrupted(job):
            return Lost(found.reason if found else "its supervisor was killed", damaged)
        where = self._seats[job.seat].slot
        changed = await asyncio.to_thread(where.changed, self._repository, job.commit, job.editable)
        return Ended(found, [*changed, *filter(None, [damaged])], damaged)

    async def stop(self, job: Job) -> None:
        training = self._under_way.get(job.key)
        if training and training.supervisor:
            await supervisor.stop(job.folder, training.supervisor)

    async def sweep(self, known: Collection[str]) -> int:
        return await asyncio.to_thread(supervisor.sweep_run, self._paths.identity, known)

    def processes(self) -> list[int]:
        return [found.supervisor.pid for found in self._under_way.values() if found.supervisor]

    async def close(self) -> None:
        for seat in self._seats:
            if seat.standby:
                seat.standby.dismiss()
                seat.standby = None
            await asyncio.to_thread(shutil.rmtree, seat.scratch, ignore_errors=True)
        self._repository.close()

    # --- what a training is given ---

    def _spec(self, seat: _Seat, job: Job, proof: str) -> Spec:
        given, around = self._fenced(seat, job)
        environment = fence.environment(
            os.environ,
            {
                **given,
                "AUTORESEARCH_BUDGET_S": f"{job.budget_s:g}",
                "AUTORESEARCH_SEED": str(job.seed),
                "AUTORESEARCH_RESULT": str(job.folder.result),
                KEY: job.key,
            },
        )
        s = self._settings
        memory_gb = s.memory_gb or 0.9 * psutil.virtual_memory().total / 2**30 / len(self._seats)
        return Spec(
            command=s.command(s.train_command),
            cwd=str(seat.slot.folder),
            env=environment,
            log=str(job.folder.log),
            exit=str(job.folder.exit),
            supervisor=str(job.folder.supervisor),
            timeout_s=s.timeout,
            memory_gb=memory_gb,
            commit=job.commit,
            fence=around,
            disk_gb=s.disk_gb,
            folders=[str(seat.slot.folder), *around.write[1:2]],
            proof=proof,
        )

    def _fenced(self, seat: _Seat, job: Job) -> tuple[dict[str, str], Fence]:
        """The variables that a training behind the fence is given, and the fence."""
        cache, s = self._paths.compiled, self._settings
        given = {**self._uv, "UV_NO_SYNC": "1", "UV_OFFLINE": "1"} if self._uv else {}
        if self._level is not None:
            given |= fence.lodgings(seat.scratch, cache, os.environ, self._data)
        write: list[Path] = [seat.slot.folder, seat.scratch, cache, job.folder.out]
        return given, fence.fence(
            self._level,
            os.environ,
            command=s.command(s.train_command),
            data=self._data,
            write=write,
            read=[*s.sandbox_read, *self._uv.values()],
            slot=seat.slot.folder,
            network=s.network,
            file_bytes=int(s.disk_gb * 2**30),
        )


def _interrupted(job: Job) -> bool:
    """The training has not come to an end of its own: nothing is known of its end, or it was killed."""
    found = job.folder.read_exit(job.commit)
    return found is None or (found.exit_code == -signal.SIGKILL and found.outcome == "crashed")

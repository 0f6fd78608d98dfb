"""Where training runs: one slot on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

import psutil

from loop import events as ev
from loop.config import Settings
from loop.judging import early_stop
from loop.paths import RunPaths
from loop.records import training_folder
from loop.records.repository import Repository
from loop.state import Run
from loop.training import fence, follow, outcome, prepare, slot, supervisor
from loop.training.supervisor import Supervisor

SEED = 1337
"""Seed of every experiment's first run: candidates are compared at the same seed."""
SUPERVISORS = 3
"""How often a run is started that somebody kills, or its supervisor: mostly not the candidate's doing."""


class Job(NamedTuple):
    """One run to do, and what it is measured against."""

    n: int
    run: Run
    metric: str
    editable: str
    full: bool = False
    """The unchanged code uses its whole budget."""
    incumbent: list[ev.CurvePoint] = []  # noqa: RUF012 - never changed
    """Loss curve of the incumbent."""


class Executor:
    """Runs one training process at a time in `.autoresearch/<tag>/slots/0`."""

    def __init__(
        self,
        settings: Settings,
        paths: RunPaths,
        repository: Repository,
        show: Callable[[ev.LiveEvent], None],
        started: Callable[[], None] = lambda: None,
    ) -> None:
        """`started` is called when a trainer runs."""
        self._settings, self._paths, self._repository, self._show = settings, paths, repository, show
        self._slot, self._lock = slot.Slot(paths.slot(0)), paths.folder / "slot-0.lock"
        self._level = fence.choose(settings.sandbox)
        self.sandbox = "off" if self._level is None else str(self._level)
        """How strong the fence around trainers is, in words."""
        self._uv = prepare.uv_environment(settings.train_command, paths.folder / "venv")
        self._data = fence.data_folders(os.environ, settings.data)
        self.damage = ""
        """Data that the last run changed: nothing after it can be believed."""
        self._running: tuple[training_folder.TrainingFolder, supervisor.Supervisor] | None = None
        self._started = started
        self._standby: supervisor.Standby | None = None
        """The next run's supervisor: started while this one goes on, as an interpreter takes its time."""
        self._ended: tuple[ev.Outcome, str] | None = None
        """How and why we ended the run under way ourselves."""
        self._ending: asyncio.Task[None] | None = None

    @property
    def supervisor(self) -> int | None:
        """Process id of the supervisor of the run under way."""
        return self._running[1].pid if self._running else None

    @staticmethod
    def seed(run: int) -> int:
        return SEED + run - 1

    async def prepare(self, commit: str) -> None:
        """Make the data with the repository's own command, outside the fence. Raises `PrepareFailed`."""
        command = self._settings.command(self._settings.prepare_command)
        commands = [["uv", "sync"]] if self._uv else []
        commands += [command] if command else []
        if commands:
            await asyncio.to_thread(self._slot.export, self._repository, commit)
        for command in commands:
            await prepare.run(command, self._slot.folder, self._show, self._uv)

    def stop_training(self, reason: str) -> bool:
        """End the run under way; `train` then returns it as stopped for this reason."""
        return self._end("stopped", reason)

    def _end(self, outcome: ev.Outcome, reason: str) -> bool:
        if self._running is None or self._ended is not None:
            return False
        self._ended = outcome, reason
        self._ending = asyncio.create_task(supervisor.stop(*self._running))
        return True

    async def train(self, job: Job) -> ev.TrainingFinished:
        """Train to the end and say how it went; a run that survived an engine is taken over.

        Cancelled, it ends the trainer's process tree and leaves the run to be started again.
        """
        run = job.run
        files = training_folder.TrainingFolder(self._paths.training(job.n, run.number))
        self._ended, steps_s = None, 0.0
        # Landlock keeps data as it is; without it, what a run changed must at least be seen.
        watched = self._level is None or self._level.landlock < 3
        data = await asyncio.to_thread(slot.inventory, self._data) if watched else {}
        for _ in range(SUPERVISORS):
            found = await supervisor.locate(files, self._lock)
            if found is None and _interrupted(files, run):
                supervisor.sweep(files)
                await asyncio.to_thread(self._slot.export, self._repository, run.commit)
                nonce = secrets.token_hex(16)
                spec = self._spec(files, run, training_folder.proof_of(nonce))
                found = self._start(files, spec, nonce)
            steps_s = await self._follow(files, job, found)
            if self._ended is not None or not _interrupted(files, run):
                break
        meddled = await asyncio.to_thread(self._slot.changed, self._repository, run.commit, job.editable)
        after = await asyncio.to_thread(slot.inventory, self._data) if watched else {}
        self.damage = next((path for path, at in data.items() if after.get(path) != at), "")
        return self._finished(files, job, steps_s, [*meddled, *filter(None, [self.damage])])

    async def _follow(
        self, files: training_folder.TrainingFolder, job: Job, found: Supervisor | None
    ) -> float:
        """Show what the run prints until its supervisor, if it has one still, is gone; returns how long it
        made steps."""
        follower = follow.Follower(files, job.n, job.run.number, self._show)
        following = asyncio.create_task(self._look(follower, job.incumbent))
        try:
            if found:
                self._running = (files, found)
                self._started()
                self._standby = self._standby or supervisor.Standby(self._lock)
                await supervisor.ended(found)
        except asyncio.CancelledError:
            if found:
                await supervisor.stop(files, found)
            raise
        finally:
            self._running = None
            following.cancel()
            follower.close()
        return follower.steps_s

    def _start(
        self, files: training_folder.TrainingFolder, spec: training_folder.Spec, nonce: str
    ) -> Supervisor:
        """Under the supervisor that stands by, or a new one if that has been killed."""
        standby, self._standby = self._standby, None
        if standby:
            with contextlib.suppress(BrokenPipeError):
                return standby.start(files, spec, nonce)
            standby.dismiss()
        return supervisor.Standby(self._lock).start(files, spec, nonce)

    def close(self) -> None:
        """Leave no process that only waits, and no temporary files."""
        if self._standby:
            self._standby.dismiss()
        shutil.rmtree(self._paths.scratch(), ignore_errors=True)

    async def _look(self, follower: follow.Follower, incumbent: list[ev.CurvePoint]) -> None:
        """Read on until cancelled; end the run when nothing can come of it any more."""
        while True:
            follower.read()
            if self._settings.stop_doomed and self._ended is None:
                why = early_stop.doomed(follower.curve, follower.nans, incumbent)
                if why and self._end("doomed", f"stopped early: {why}"):
                    self._show(ev.Notice("info", f"stopped early: {why}"))
            await asyncio.sleep(follow.FOLLOW_S)

    def _spec(self, files: training_folder.TrainingFolder, run: Training, proof: str) -> training_folder.Spec:
        given, around = self._fenced(files)
        environment = fence.environment(
            os.environ,
            {
                **given,
                "AUTORESEARCH_BUDGET_S": f"{run.budget_s:g}",
                "AUTORESEARCH_SEED": str(run.seed),
                "AUTORESEARCH_RESULT": str(files.result),
            },
        )
        memory_gb = self._settings.memory_gb or 0.9 * psutil.virtual_memory().total / 2**30
        return training_folder.Spec(
            self._settings.command(self._settings.train_command),
            str(self._slot.folder),
            environment,
            str(files.log),
            str(files.exit),
            str(files.supervisor),
            self._settings.timeout,
            memory_gb,
            commit=run.commit,
            fence=around,
            disk_gb=self._settings.disk_gb,
            folders=[str(self._slot.folder), *around.write[1:2]],
            proof=proof,
        )

    def _fenced(self, files: training_folder.TrainingFolder) -> tuple[dict[str, str], training_folder.Fence]:
        """What a run behind the fence is given, and the fence."""
        scratch, cache, s = self._paths.scratch(), self._paths.compiled, self._settings
        given = {**self._uv, "UV_NO_SYNC": "1", "UV_OFFLINE": "1"} if self._uv else {}
        if self._level is not None:
            given |= fence.lodgings(scratch, cache, os.environ, self._data)
        around = fence.fence(
            self._level,
            os.environ,
            command=s.command(s.train_command),
            data=self._data,
            write=[self._slot.folder, scratch, cache, files.out],
            read=[*s.sandbox_read, *self._uv.values()],
            slot=self._slot.folder,
            network=s.network,
            file_bytes=int(s.disk_gb * 2**30),
        )
        return given, around

    def _finished(
        self, files: training_folder.TrainingFolder, job: Job, steps_s: float, changed: list[str]
    ) -> ev.TrainingFinished:
        """What a run that has ended amounts to, from what it left on disk."""
        run = job.run
        found = files.read_exit(run.commit)
        if self._ended is not None:
            found = training_folder.Exit(*self._ended, -15, run.started_at, time.time())
        elif found is None:
            why = f"its supervisor was killed {SUPERVISORS} times"
            found = training_folder.Exit("crashed", why, -9, run.started_at, time.time())
        return outcome.account(
            files, found, job.n, run, job.metric, steps_s=steps_s, changed=changed, full=job.full,
            fenced=self._level is not None,
        )  # fmt: skip


def _interrupted(files: training_folder.TrainingFolder, run: Training) -> bool:
    """It did not come to an end of its own."""
    found = files.read_exit(run.commit)
    return found is None or (found.exit_code == -signal.SIGKILL and found.outcome == "crashed")

"""Where training runs: one slot on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable

import psutil

from loop import events as ev
from loop import progress, reach, seal, trainer, workspace
from loop.config import Settings
from loop.paths import RunPaths
from loop.repository import Repository
from loop.state import Run

SEED = 1337
"""Seed of every experiment's first run: candidates are compared at the same seed."""


SUPERVISORS = 3
"""How often a run is started again whose supervisor was killed: that is not the candidate's doing."""


class PrepareFailed(Exception):
    """The data could not be prepared; the message is one sentence."""


class Executor:
    """Runs one training process at a time in `.autoresearch/<tag>/slots/0`."""

    def __init__(
        self,
        settings: Settings,
        paths: RunPaths,
        repository: Repository,
        show: Callable[[ev.LiveEvent], None],
    ) -> None:
        self._settings, self._paths, self._repository, self._show = settings, paths, repository, show
        self._slot, self._lock = paths.slot(0), paths.folder / "slot-0.lock"
        self._level = reach.choose(settings.sandbox)
        self.sandbox = "off" if self._level is None else str(self._level)
        """How strong the fence around trainers is, in words."""
        self._data = reach.data_folders(os.environ, settings.data)
        self._stop_reason: str | None = None
        self._running: tuple[trainer.RunFiles, trainer.Supervisor] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @staticmethod
    def seed(run: int) -> int:
        return SEED + run - 1

    async def prepare(self, commit: str) -> None:
        """Run the repository's `prepare_command`, with network, showing its last line as it goes."""
        command = self._settings.command(self._settings.prepare_command)
        if not command:
            return
        await asyncio.to_thread(workspace.export, self._repository, commit, self._slot)
        environment = trainer.environment(os.environ, _hub(os.environ))
        self._show(ev.Preparing("preparing data"))
        try:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=self._slot, env=environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise PrepareFailed(f"cannot start {command[0]}: {error.strerror}") from error
        last = ""
        try:
            assert process.stdout is not None, "stdout is a pipe"
            while chunk := await process.stdout.read(65536):
                lines = [
                    line
                    for line in progress.clean(chunk.decode("utf-8", "replace")).splitlines()
                    if line.strip()
                ]
                if lines:
                    last = lines[-1].strip()[:200]
                    self._show(ev.Preparing(last))
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        finally:
            self._show(ev.Preparing(""))
        if code != 0:
            raise PrepareFailed(f"preparing the data failed (exit code {code}): {last}")

    def stop_run(self, reason: str) -> bool:
        """End the run under way; `train` then returns it as stopped for this reason."""
        if self._running is None:
            return False
        self._stop_reason = reason
        self._stopping = asyncio.create_task(trainer.stop(*self._running))
        return True

    async def train(self, n: int, run: Run, metric: str) -> ev.RunFinished:
        """Train to the end and say how it went; a run that survived an engine is taken over.

        Cancelled, it ends the trainer's process tree and leaves the run to be started again.
        """
        files = trainer.RunFiles(self._paths.run(n, run.run))
        self._stop_reason = None
        for _ in range(SUPERVISORS):
            supervisor = await trainer.locate(files, self._lock)
            if supervisor is None and files.read_exit(run.commit) is None:
                trainer.sweep(files)
                await asyncio.to_thread(workspace.export, self._repository, run.commit, self._slot)
                nonce = secrets.token_hex(16)
                spec = self._spec(files, run, seal.proof(nonce))
                supervisor = trainer.start(files, spec, self._lock, nonce)
            await self._follow(files, n, run.run, supervisor)
            if self._stop_reason is not None or files.read_exit(run.commit):
                break
        return self._finished(files, n, run, metric)

    async def _follow(
        self, files: trainer.RunFiles, n: int, run: int, supervisor: trainer.Supervisor | None
    ) -> None:
        """Show what the run prints until its supervisor, if it has one still, is gone."""
        follower = trainer.Follower(files, n, run, self._show)
        following = asyncio.create_task(follower.follow())
        try:
            if supervisor:
                self._running = (files, supervisor)
                await trainer.ended(supervisor)
        except asyncio.CancelledError:
            if supervisor:
                await trainer.stop(files, supervisor)
            raise
        finally:
            self._running = None
            following.cancel()
            follower.close()

    def _spec(self, files: trainer.RunFiles, run: Run, proof: str) -> trainer.Spec:
        given, fence = self._fenced(files)
        environment = trainer.environment(
            os.environ,
            {
                **given,
                "AUTORESEARCH_BUDGET_S": f"{run.budget_s:g}",
                "AUTORESEARCH_SEED": str(run.seed),
                "AUTORESEARCH_RESULT": str(files.result),
            },
        )
        memory_gb = self._settings.memory_gb or 0.9 * psutil.virtual_memory().total / 2**30
        return trainer.Spec(
            self._settings.command(self._settings.train_command),
            str(self._slot),
            environment,
            str(files.log),
            str(files.exit),
            str(files.supervisor),
            self._settings.timeout,
            memory_gb,
            commit=run.commit,
            fence=fence,
            disk_gb=self._settings.disk_gb,
            folders=[str(self._slot), *fence.write[1:2]],
            proof=proof,
        )

    def _fenced(self, files: trainer.RunFiles) -> tuple[dict[str, str], reach.Fence]:
        """What a run behind the fence is given, and the fence."""
        scratch, cache, s = self._paths.scratch(), self._paths.compiled, self._settings
        given = reach.lodgings(scratch, cache, os.environ, self._data) if self._level is not None else {}
        fence = reach.fence(
            self._level,
            os.environ,
            command=s.command(s.train_command),
            data=self._data,
            write=[self._slot, scratch, cache, files.out],
            read=s.sandbox_read,
            network=s.network,
            file_bytes=int(s.disk_gb * 2**30),
        )
        return given, fence

    def _finished(self, files: trainer.RunFiles, n: int, run: Run, metric: str) -> ev.RunFinished:
        """What a run that has ended amounts to, from what it left on disk."""
        log = files.end_of_log()
        summary = progress.parse_summary(log[-65536:])
        found = files.read_exit(run.commit)
        if self._stop_reason is not None:
            found = trainer.Exit("stopped", self._stop_reason, -15, run.started_at, time.time())
        elif found is None:
            why = f"its supervisor was killed {SUPERVISORS} times"
            found = trainer.Exit("crashed", why, -9, run.started_at, time.time())
        sealed = files.read_result()
        printed = progress.metric(summary, metric)
        value = sealed.val_bpb if sealed else printed
        outcome, reason = found.outcome, found.reason
        if outcome == "finished" and value is None:
            outcome, reason = "crashed", f"it printed no finite {metric}"
        elif outcome == "crashed":
            reason = _explain(reason, log)
        return ev.RunFinished(
            n,
            run.run,
            outcome,
            reason,
            found.exit_code,
            value if outcome == "finished" else None,
            _number(summary, "peak_vram_mb") / 1024,
            _number(summary, "training_seconds"),
            found.ended - found.started,
            summary,
            verified=sealed is not None,
            hidden=sealed.hidden_bpb if sealed else None,
            flags=seal.flags(sealed, printed, run.budget_s, found.ended - found.started) if sealed else [],
            data=sealed.data if sealed else "",
            excluded_seconds=sealed.excluded_seconds if sealed else 0.0,
        )


def _explain(reason: str, log: str) -> str:
    """The reason of a crash with the last line it printed: mostly the exception."""
    lines = [line.strip() for line in progress.tail(log, 20).splitlines() if line.strip()]
    return f"{lines[-1][:200]} ({reason})" if lines and reason.startswith("exit code") else reason


def _number(summary: dict[str, float | str], name: str) -> float:
    value = summary.get(name)
    return value if isinstance(value, float) else 0.0


def _hub(environ: os._Environ[str]) -> dict[str, str]:
    """A data hub's address and token: only preparation gets them, never a candidate."""
    return {name: environ[name] for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HOME") if name in environ}

"""Lets the saved model of a candidate continue a text.

Loading a model runs code that an agent wrote. So this is done like a training: the candidate's files are
exported to a folder of their own, and its sample.py runs there under a supervisor and behind the fence.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path, PurePosixPath

import psutil

from loop import text
from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import Spec, TrainingFolder
from loop.training import compile_cache, fence, prepare, supervisor
from loop.training.programs.leftovers import remove
from loop.training.slot import Slot
from loop.training.supervisor import Standby, Supervisor

SCRIPT = "sample.py"
"""The script beside the editable file that loads a model (nanogpt/sample.py)."""
TIMEOUT_S = 600.0
"""How long loading and sampling may take together."""
MARK = "---\n"
"""The script prints this before the continuation."""


async def sample(
    settings: Settings,
    paths: RunPaths,
    repository: Repository,
    commit: str,
    training: TrainingFolder,
    words: list[str],
) -> str:
    """The text that sample.py of `commit` prints for the model of `training`; `words` are its arguments.

    Raises `UsageError` when the commit has no such script, when another sample of this run is under way, and
    when the script fails.
    """
    command = _command(settings, paths, repository, commit)
    folder = paths.folder / "sample"
    folder.mkdir(exist_ok=True)
    lock = folder / "lock"
    if not supervisor.is_free(lock):
        raise UsageError("another sample of this run is under way: wait until it has ended")
    slot, files = Slot(folder / "slot"), TrainingFolder(folder / "process")
    scratch = paths.scratch("sample")
    await asyncio.to_thread(slot.export, repository, commit)
    try:
        spec = _spec(settings, paths, commit, slot.folder, files, scratch, training, [*command, *words])
        files.folder.mkdir(exist_ok=True)
        await _wait(files, Standby(lock).start(files, spec))
    finally:
        await asyncio.to_thread(remove, scratch)
    return _printed(files, commit)


def _command(settings: Settings, paths: RunPaths, repository: Repository, commit: str) -> list[str]:
    """The training's command with sample.py in the place of the editable file."""
    script = str(PurePosixPath(settings.path).with_name(SCRIPT))
    if repository.read(commit, script) is None:
        raise UsageError(f"commit {commit[:7]} has no {script}, which would load the model")
    command = prepare.train_command(settings, paths)
    if settings.path not in command:
        raise UsageError(f"`train_command` does not name {settings.path}: unknown how to start {script}")
    return [script if word == settings.path else word for word in command]


def _spec(
    settings: Settings,
    paths: RunPaths,
    commit: str,
    slot: Path,
    files: TrainingFolder,
    scratch: Path,
    training: TrainingFolder,
    command: list[str],
) -> Spec:
    """What the supervisor is to run: like a training, but it reads a model, and never has network."""
    support = fence.choose(settings.sandbox)
    data = fence.data_folders(os.environ, settings.data)
    uv = prepare.uv_environment(settings.train_command, paths.venv)
    variables = prepare.uv_offline(uv)
    if support is not None:
        variables |= fence.make_fresh_folders(
            scratch, cache=compile_cache.private(scratch), data=data, environ=os.environ
        )
    return Spec(
        command=command,
        cwd=str(slot),
        env=fence.environment(os.environ, variables),
        log=str(files.log),
        exit=str(files.exit),
        supervisor=str(files.supervisor),
        timeout_s=TIMEOUT_S,
        memory_gb=settings.memory_gb or psutil.virtual_memory().total / 2**30,
        commit=commit,
        fence=fence.build(
            support,
            os.environ,
            command=command,
            data=data,
            write=[slot, scratch],
            read=[*settings.sandbox_read, *uv.values(), str(training.out)],
            slot=slot,
            file_bytes=int(settings.disk_gb * 2**30),
            cache=data[0],
        ),
        disk_gb=settings.disk_gb,
        folders=[str(slot)],
    )


async def _wait(files: TrainingFolder, living: Supervisor) -> None:
    """Wait for the end of the process; when this is cancelled, end it."""
    try:
        await supervisor.ended(living)
    except asyncio.CancelledError:
        await supervisor.stop(files, living)
        raise


def _printed(files: TrainingFolder, commit: str) -> str:
    """The continuation in the log, safe to show. Raises `UsageError` with the reason when there is none."""
    log = text.clean(files.end_of_log())
    ended = files.read_exit(commit)
    _, mark, continuation = log.partition(MARK)
    if ended is None or ended.outcome != "finished" or not mark:
        reason = ended.reason if ended else "its process was killed"
        if not reason or reason.startswith("exit code"):  # then its last line says more: mostly the exception
            lines = [line for line in text.tail(log).splitlines() if line.strip()]
            reason = lines[-1] if lines else reason or "it printed nothing"
        raise UsageError(f"the model gave no continuation: {reason}")
    return continuation.removesuffix("\n")

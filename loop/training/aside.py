"""Runs a program of the repository aside from the trainings: to sample from a model, or to test the machine.

It runs a candidate's code, so this is done like a training: the commit's files are exported to a folder of
their own, and the program runs there under a supervisor and behind the fence.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import psutil

from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import Spec, TrainingFolder
from loop.training import compile_cache, fence, prepare, supervisor
from loop.training.programs.leftovers import remove
from loop.training.slot import Slot
from loop.training.supervisor import Standby

LOOK_S = 0.2
"""Seconds between two looks at what the program has printed."""


async def run(
    settings: Settings,
    paths: RunPaths,
    repository: Repository,
    commit: str,
    command: list[str],
    *,
    name: str,
    timeout_s: float,
    read: list[str],
    say: Callable[[str], None] = lambda line: None,
    finish: Callable[[Path], None] = lambda scratch: None,
) -> TrainingFolder:
    """Run the command to its end in an export of `commit`; returns the folder with its log and exit.json.

    `name` names the folder below the run's, where one such program runs at a time. The program may read what
    a training may, and `read`; it never has network. `say` gets each line that it prints, `finish` its
    private folder before that is removed. Raises `UsageError` when another one is under way.
    """
    folder = paths.folder / name
    folder.mkdir(exist_ok=True)
    lock = folder / "lock"
    if not supervisor.is_free(lock):
        raise UsageError(f"another {name} of this run is under way: wait until it has ended")
    slot, files = Slot(folder / "slot"), TrainingFolder(folder / "process")
    scratch = paths.scratch(name)
    await asyncio.to_thread(slot.export, repository, commit)
    try:
        spec = _spec(settings, paths, commit, slot.folder, files, scratch, command, read, timeout_s)
        files.folder.mkdir(exist_ok=True)
        living = Standby(lock).start(files, spec)
        try:
            await _follow(files, asyncio.ensure_future(supervisor.ended(living)), say)
        except asyncio.CancelledError:
            await supervisor.stop(files, living)
            raise
        await asyncio.to_thread(finish, scratch)
    finally:
        await asyncio.to_thread(remove, scratch)
    return files


async def _follow(files: TrainingFolder, end: asyncio.Future[None], say: Callable[[str], None]) -> None:
    """Say each line of the log as it is printed, until the process has ended."""
    done = 0
    try:
        while not end.done():
            await asyncio.wait([end], timeout=LOOK_S)
            *lines, rest = files.end_of_log().split("\n")
            for line in [*lines, rest][done:] if end.done() else lines[done:]:
                say(line)
            done = len(lines)
        end.result()
    finally:
        end.cancel()


def _spec(
    settings: Settings,
    paths: RunPaths,
    commit: str,
    slot: Path,
    files: TrainingFolder,
    scratch: Path,
    command: list[str],
    read: list[str],
    timeout_s: float,
) -> Spec:
    """What the supervisor is to run: like a training, but never with network."""
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
        timeout_s=timeout_s,
        memory_gb=settings.memory_gb or psutil.virtual_memory().total / 2**30,
        commit=commit,
        fence=fence.build(
            support,
            os.environ,
            command=command,
            data=data,
            write=[slot, scratch],
            read=[*settings.sandbox_read, *uv.values(), *read],
            slot=slot,
            file_bytes=int(settings.disk_gb * 2**30),
            held_out=settings.held_out,
            cache=data[0],
        ),
        disk_gb=settings.disk_gb,
        folders=[str(slot)],
    )

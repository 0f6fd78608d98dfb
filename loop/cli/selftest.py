"""`autoresearch-tui selftest`: tries on this machine what a training needs, and prints a line each."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from loop import events as ev
from loop.cli import trust
from loop.errors import UsageError
from loop.paths import RunPaths, newest
from loop.records.repository import Repository
from loop.training import gpu, prepare, selftest
from loop.training.executor import PrepareFailed
from loop.training.slot import Slot


async def main(trusted: bool) -> int:
    """Test the machine with the code that is checked out; returns the exit code.

    Where uv installs a trainer's packages, those of the newest run are used, and installed if it has none.
    Raises `UsageError`.
    """
    repository = Repository.discover(Path.cwd())
    try:
        commit = repository.head()
        settings = trust.settings(repository, commit, {}, trust=trusted, ask=True)
        uv = prepare.uv_environment(settings.train_command, Path())
        paths = RunPaths(repository.root, (newest(repository.root, None) if uv else None) or ".selftest")
        paths.create()
        command = prepare.train_command(settings, paths)
        if uv and not paths.venv.exists():
            await _install(paths, repository, commit)
        python = gpu.python_of(command)
        if python is None:
            raise UsageError(f"training is started by {command[0]}, not by Python: nothing can be tested")
        await asyncio.to_thread(gpu.make_devices)
        facts = await asyncio.to_thread(gpu.ask, python, os.environ)
        found = await selftest.run(
            settings, paths, repository, commit, facts, lambda check: print(check, flush=True)
        )
    finally:
        repository.close()
    print(
        f"{found.machine}: {found}" if found.of("warn") or found.of("fail") else f"{found.machine}: all well"
    )
    return int(bool(found.of("fail")))


async def _install(paths: RunPaths, repository: Repository, commit: str) -> None:
    """Let uv install the packages of a trainer that no run here has trained yet."""
    slot = Slot(paths.folder / "slots" / "0")
    slot.export(repository, commit)

    def show(event: ev.LiveEvent) -> None:
        if isinstance(event, ev.Preparing) and event.text:
            print(event.text, flush=True)

    try:
        await prepare.run(["uv", "sync"], slot.folder, show, prepare.uv_environment(["uv"], paths.venv))
    except PrepareFailed as error:
        raise UsageError(str(error)) from error

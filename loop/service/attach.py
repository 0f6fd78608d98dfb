"""How to find, recognise and reach the engine of a run."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from loop import __version__
from loop.client import Client, ConnectionLost
from loop.errors import UsageError
from loop.paths import RunPaths

START_PATIENCE_S = 30.0


class EngineInfo(msgspec.Struct, frozen=True):
    """engine.json: how to reach the engine that holds the lock."""

    pid: int
    version: str
    socket: str


@contextlib.contextmanager
def lock(paths: RunPaths) -> Iterator[None]:
    """Hold engine.lock; it vanishes with the process. Raises `UsageError` with the holder's pid."""
    paths.create()
    with paths.lock.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = info(paths)
            who = f" (pid {found.pid})" if found else ""
            raise UsageError(
                f"an engine for run {paths.tag} is running already{who}: "
                f"use `autoresearch-tui attach --tag {paths.tag}`"
            ) from None
        yield


def alive(paths: RunPaths) -> bool:
    """Someone holds engine.lock."""
    if not paths.lock.exists():
        return False
    with paths.lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def info(paths: RunPaths) -> EngineInfo | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(paths.info.read_bytes(), type=EngineInfo)
    return None


def exists(pid: int) -> bool:
    """A process that is there and not only waits for its parent to take notice of its end."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def connect(paths: RunPaths) -> Client:
    """Attach to the live engine of this run. Raises `UsageError` or `ConnectionLost`."""
    deadline = time.monotonic() + START_PATIENCE_S
    while alive(paths) and time.monotonic() < deadline:
        if found := info(paths):
            if found.version != __version__:
                raise UsageError(
                    f"the engine (pid {found.pid}) is version {found.version}, this is {__version__}: "
                    f"stop it with `kill {found.pid}`, or with that version's own `autoresearch-tui stop`"
                )
            with contextlib.suppress(OSError):
                return await Client.connect(Path(found.socket))
        await asyncio.sleep(0.05)
    raise ConnectionLost(f"no engine runs for {paths.tag}")

"""Finds the engine of a run and connects to it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from loop import __version__
from loop.client import Client, ConnectionLost
from loop.errors import UNREADABLE, UsageError, describe
from loop.paths import RunPaths, owner_only
from loop.records.shaped_file import read_shaped

START_PATIENCE_S = 30.0
"""How long an engine may take to start and to answer."""


NO_LOCK = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EINVAL)
"""Errors of opening engine.lock that say that there is none, or something that no engine has made."""

INFO_MOST = 64 * 1024
"""Bytes that engine.json may have."""


class EngineInfo(msgspec.Struct, frozen=True):
    """What engine.json holds: how to reach the engine that holds the lock."""

    pid: int
    version: str
    socket: str


@contextlib.contextmanager
def lock(paths: RunPaths) -> Iterator[None]:
    """Hold engine.lock: only one engine works on a run. The system frees it when the process ends.

    Raises `UsageError` when another engine holds it, and when it is no file.
    """
    paths.create()
    try:
        opened = open(paths.lock, "a+b", opener=owner_only)  # noqa: SIM115 - closed just below
    except OSError as error:
        raise UsageError(f"cannot lock run {paths.tag}: {describe(error)}") from error
    with opened as file:
        os.fchmod(file.fileno(), 0o600)  # whoever can open a file can lock it
        if not _take(file):
            found = info(paths)
            who = f" (pid {found.pid})" if found else ""
            raise UsageError(
                f"an engine for run {paths.tag} is running already{who}: "
                f"use `autoresearch-tui attach --tag {paths.tag}`"
            )
        yield


def _take(file: BinaryIO) -> bool:
    """Lock a file for this process alone; False when another engine has.

    Whoever asks whether an engine runs holds the lock for a moment, together with others who ask
    (`engine_runs`). That is no engine: it is tried again.
    """
    while True:
        for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if kind == fcntl.LOCK_EX:
                return True
            fcntl.flock(file, fcntl.LOCK_UN)
            break
        else:
            return False
        time.sleep(random.uniform(0.001, 0.01))  # two engines that start together must not go on for ever


def engine_runs(paths: RunPaths) -> bool:
    """Whether an engine of this run is alive: it holds engine.lock.

    Raises `ConnectionLost` when the system does not say, as it does where no file can be opened any more.
    """
    try:
        with open(paths.lock, "rb", opener=owner_only) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in NO_LOCK:
            raise ConnectionLost(
                f"cannot tell whether an engine of run {paths.tag} is alive: {describe(error)}"
            ) from error
    return False


def info(paths: RunPaths) -> EngineInfo | None:
    """The content of engine.json, None while there is none."""
    with contextlib.suppress(OSError, *UNREADABLE):
        return msgspec.json.decode(read_shaped(paths.info, INFO_MOST) or b"", type=EngineInfo)
    return None


async def connect(paths: RunPaths) -> Client:
    """Connect to the engine of this run, once it is ready.

    Raises `UsageError` when it is of another version, `ConnectionLost` when none runs or it does not answer.
    """
    deadline = time.monotonic() + START_PATIENCE_S
    while engine_runs(paths) and time.monotonic() < deadline:
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

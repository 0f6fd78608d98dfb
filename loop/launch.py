"""The engine as a process: one per run, in the foreground or detached from the terminal that started it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import psutil

from loop import __version__
from loop import events as ev
from loop.agents.choose import make_agent
from loop.client import Client, ConnectionLost
from loop.config import Settings
from loop.engine import Engine
from loop.errors import BranchMoved, UsageError
from loop.journal import Journal
from loop.notify import Notifier
from loop.paths import RunPaths
from loop.repository import Repository, branch_of
from loop.server import Server
from loop.state import fold
from loop.telemetry import watch

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


def start_detached(paths: RunPaths, arguments: Sequence[str]) -> None:
    """Start `autoresearch-tui run` in a session of its own and wait until it holds the lock.

    Its output goes to engine.log: a pipe to us would kill it with us. Raises `UsageError` with its last
    words when it ends at once.
    """
    paths.create()
    with paths.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "loop.cli", "run", *arguments],
            cwd=paths.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline:
        found = info(paths)
        if found and found.pid == process.pid and alive(paths):
            return
        if process.poll() is not None:
            words = paths.log.read_text("utf-8", "replace").strip().splitlines()
            raise UsageError(
                words[-1].removeprefix("autoresearch-tui: ")
                if words
                else f"the engine ended with exit code {process.returncode}"
            )
        time.sleep(0.02)
    raise UsageError(f"the engine did not start within {START_PATIENCE_S:.0f} s: see {paths.log}")


def run_engine(
    settings: Settings,
    paths: RunPaths,
    repository: Repository,
    *,
    headless: bool,
    say: Callable[[ev.Record], None],
) -> int:
    """Run the engine in this process until it stops; 0 when it ended in order."""
    with lock(paths):
        repository.clear_stale_locks(paths.tag)
        _check_branch(repository, paths)
        journal = Journal.open(paths.journal)
        paths.info.unlink(missing_ok=True)
        try:
            return asyncio.run(_run(settings, paths, repository, journal, headless, say))
        except BranchMoved as error:
            raise UsageError(str(error)) from error
        finally:
            journal.close()
            paths.info.unlink(missing_ok=True)


async def _run(
    settings: Settings,
    paths: RunPaths,
    repository: Repository,
    journal: Journal,
    headless: bool,
    say: Callable[[ev.Record], None],
) -> int:
    agent = make_agent(settings, os.environ)
    notifier = Notifier(os.environ, lambda notice: engine.show(notice))
    server = Server(paths.socket())

    def publish(record: ev.Record) -> None:
        server.publish(record)
        say(record)
        notifier.tell(record.event, engine.state)

    state = fold(journal.records)
    journal.records.clear()  # the state holds what matters of them
    engine = Engine(settings, paths, repository, journal, state, agent, publish, stop_at_limit=headless)
    if not state.tag:
        engine.record(_created(settings, paths, repository))
    engine.record(
        ev.EngineStarted(
            os.getpid(), __version__, agent.name, agent.model, settings.budget_s, settings.timeout,
            engine.executor.sandbox, approval=settings.approve, limits=settings.limits,
        )
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(
            number, lambda: engine.stop("stopped by a signal", now=True)
        )
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    await server.open(engine)
    paths.info.write_bytes(msgspec.json.encode(EngineInfo(os.getpid(), __version__, str(server.path))))
    telemetry = asyncio.create_task(watch(engine.show))
    try:
        reason = await engine.run()
    finally:
        telemetry.cancel()
        await server.close()
        await notifier.close()
    return 1 if headless and reason.startswith("the baseline") else 0


def _created(settings: Settings, paths: RunPaths, repository: Repository) -> ev.RunCreated:
    return ev.RunCreated(
        paths.tag,
        str(repository.root),
        repository.head(),
        settings.path,
        settings.train_command,
        settings.metric,
        settings.direction,
    )


def _check_branch(repository: Repository, paths: RunPaths) -> None:
    branch = branch_of(paths.tag)
    if where := repository.checked_out(branch):
        raise UsageError(
            f"branch {branch} is checked out in {where}: this run moves it, so check out another branch there"
        )
    if not paths.journal.exists() and repository.resolve(f"refs/heads/{branch}"):
        raise UsageError(f"branch {branch} exists but its journal does not: choose another --tag")

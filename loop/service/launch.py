"""The engine as a process: one per run, in the foreground or detached from the terminal that started it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from loop import __version__
from loop import events as ev
from loop.agents.choose import make_agent
from loop.config import Settings
from loop.engine import Engine
from loop.errors import BranchMoved, UsageError
from loop.paths import RunPaths
from loop.records.journal import Journal
from loop.records.repository import Repository, branch_of
from loop.service.attach import START_PATIENCE_S, EngineInfo, alive, info, lock
from loop.service.notify import Notifier
from loop.service.server import Server
from loop.service.telemetry import watch
from loop.store import Store
from loop.training.local import LocalExecutor


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
    store = Store(journal)
    notifier = Notifier(os.environ, store.show)
    server = Server(paths.socket())
    store.listen(server.publish)
    store.listen(say)
    store.listen(lambda record: notifier.tell(record.event, store.state))
    executor = LocalExecutor(settings, paths, repository)
    engine = Engine(settings, paths, repository, store, agent, executor, stop_at_limit=headless)
    if not store.state.tag:
        store.record(_created(settings, paths, repository))
    store.record(
        ev.EngineStarted(
            os.getpid(),
            __version__,
            agent.name,
            model=agent.model,
            budget_s=settings.budget_s,
            timeout_s=settings.timeout,
            sandbox=executor.describe()[0].fence,
            approval=settings.approve,
            limits=settings.limits,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(
            number, lambda: engine.stop("stopped by a signal", now=True)
        )
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    await server.open(engine)
    paths.info.write_bytes(msgspec.json.encode(EngineInfo(os.getpid(), __version__, str(server.path))))
    telemetry = asyncio.create_task(watch(store.show))
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


FOLDERS = ("/usr/lib/systemd", "/run/systemd", "/etc/systemd")
"""The later ones win, as do files in their logind.conf.d over logind.conf."""
LINGER = Path("/var/lib/systemd/linger")


def warning(
    environ: Mapping[str, str], folders: Iterable[str] = FOLDERS, linger: Path = LINGER
) -> str | None:
    """What to do about it; None where nothing is killed, or where it has been done."""
    if not _kills(folders):
        return None
    safe = "INVOCATION_ID" in environ and (linger / environ.get("USER", "")).is_file()
    if safe or environ.get("USER") == "root":  # logind spares root unless told otherwise
        return None
    return (
        "this system ends your processes at log-out; to keep the engine, run `loginctl enable-linger` once "
        "and start with `systemd-run --user --scope autoresearch-tui`"
    )


def _kills(folders: Iterable[str]) -> bool:
    """The last word on KillUserProcesses; distributions set it to no where nothing is said."""
    said = "no"
    for name in ("logind.conf", "logind.conf.d/*.conf"):
        for folder in folders:
            for path in sorted(Path(folder).glob(name)):
                if path.is_file():
                    text = path.read_text("utf-8", "replace")
                    found = re.findall(r"^[ \t]*KillUserProcesses[ \t]*=[ \t]*(\S+)", text, re.MULTILINE)
                    said = found[-1] if found else said
    return said.lower() in ("yes", "true", "on", "1")

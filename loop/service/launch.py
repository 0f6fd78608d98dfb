"""Starts the engine of a run: in this process, or in one that outlives the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loop import __version__, budget, memory
from loop import events as ev
from loop.agents.base import Agent
from loop.agents.choose import make_agent
from loop.config import Settings
from loop.engine import Engine
from loop.errors import BranchMoved, UsageError, describe
from loop.paths import RunPaths, owner_only, write_whole
from loop.records.repository import Repository, branch_of
from loop.records.shaped_file import read_shaped
from loop.service import runs
from loop.service.attach import START_PATIENCE_S, EngineInfo, engine_runs, info, lock
from loop.service.executors import make_executor
from loop.service.notify import Notifier
from loop.service.server import Server
from loop.service.telemetry import watch
from loop.service.tracking import Tracking
from loop.state import RunState
from loop.store import Store
from loop.training import gpu
from loop.training.executor import Executor

FLAGS_MOST = 2**20
"""Bytes that flags.json may have."""
LOGIND_FOLDERS = ("/usr/lib/systemd", "/run/systemd", "/etc/systemd")
"""Where systemd-logind reads logind.conf and logind.conf.d/*.conf. A later folder overrides an earlier one,
and in each the files of logind.conf.d override logind.conf."""
LINGER_FOLDER = Path("/var/lib/systemd/linger")
"""Holds a file named after each user whose processes may outlive their log-in."""


# --- detached from the terminal ---


def start_detached(paths: RunPaths, flags: Mapping[str, Any], *, trust: bool = False) -> None:
    """Start `autoresearch-tui run` in a session of its own and wait until it holds the run's lock.

    `flags` are settings by their names in `Settings`; they go to the engine through flags.json. With `trust`
    all that the repository asks for counts (loop/stranger.py). The engine's output goes to engine.log: if it
    went through a pipe to this process, the engine would end with it. Raises `UsageError` with the engine's
    last line when it ends at once.
    """
    paths.create()
    _write_flags(paths, flags)
    command = [sys.executable, "-P", "-m", "loop.cli", "run", "--tag", paths.tag]
    command += ["--trust"] if trust else []
    with open(paths.log, "ab", opener=owner_only) as log:
        process = subprocess.Popen(
            [*command, "--flags-from", str(paths.flags)],
            cwd=paths.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline:
        found = info(paths)
        if found and found.pid == process.pid and engine_runs(paths):
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


def _write_flags(paths: RunPaths, flags: Mapping[str, Any]) -> None:
    """Write flags.json for this user's eyes only, because addresses and commands may contain passwords.

    Raises `UsageError`.
    """
    try:
        write_whole(paths.flags, json.dumps(dict(flags)).encode())
    except OSError as error:
        raise UsageError(describe(error)) from error


def read_flags(file: Path) -> dict[str, Any]:
    """The flags that `start_detached` wrote. Raises `UsageError` when the file is not such a file."""
    content = read_shaped(file, FLAGS_MOST)
    if content is None:
        raise UsageError(
            f"cannot use {file}: {'it is no file of flags' if file.exists() else 'No such file'}"
        )
    try:
        flags = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not a file of flags: {error}") from error
    if not isinstance(flags, dict):
        raise UsageError(f"{file} is not a file of flags: it holds no JSON object")
    return flags


def logout_warning(
    environ: Mapping[str, str],
    folders: Iterable[str] = LOGIND_FOLDERS,
    linger_folder: Path = LINGER_FOLDER,
) -> str | None:
    """A warning where the system would end a detached engine at log-out, None where it would not."""
    if not _kills_at_logout(folders):
        return None
    # A lingering user's own unit outlives the log-in; a process of the log-in's unit does not even then.
    own_unit = "INVOCATION_ID" in environ
    lingers = (linger_folder / environ.get("USER", "")).is_file()
    if (own_unit and lingers) or environ.get("USER") == "root":  # by default logind spares root
        return None
    return (
        "this system ends your processes at log-out; to keep the engine, run `loginctl enable-linger` once "
        "and start with `systemd-run --user --scope autoresearch-tui`"
    )


def _kills_at_logout(folders: Iterable[str]) -> bool:
    """Whether systemd-logind is configured to end a user's processes: the last KillUserProcesses counts.

    Where nothing is configured it does not: distributions build it with `no` as the default.
    """
    value = "no"
    for name in ("logind.conf", "logind.conf.d/*.conf"):
        for folder in folders:
            for path in sorted(Path(folder).glob(name)):
                if path.is_file():
                    text = path.read_text("utf-8", "replace")
                    found = re.findall(r"^[ \t]*KillUserProcesses[ \t]*=[ \t]*(\S+)", text, re.MULTILINE)
                    value = found[-1] if found else value
    return value.lower() in ("yes", "true", "on", "1")


# --- in this process ---


def run_engine(
    settings: Settings,
    paths: RunPaths,
    repository: Repository,
    *,
    headless: bool,
    say: Callable[[ev.Record], None],
) -> int:
    """Run the engine in this process until it stops; returns the exit code.

    `headless`: what would pause the engine ends it, a limit with exit code 0, all else with 1. `say` gets
    every record. Raises `UsageError` when another engine of this run is alive or the run's branch cannot be
    moved.
    """
    memory.one_heap()
    return asyncio.run(_with_lock(settings, paths, repository, headless, say))


async def _with_lock(
    settings: Settings,
    paths: RunPaths,
    repository: Repository,
    headless: bool,
    say: Callable[[ev.Record], None],
) -> int:
    """Run the engine with the run's lock. What is only sent elsewhere ends after that: the next engine need
    not wait for it."""
    async with contextlib.AsyncExitStack() as afterwards:
        with lock(paths):
            repository.clear_stale_locks(paths.tag)
            _check_branch(repository, paths)
            store = Store.open(paths.journal)
            paths.info.unlink(missing_ok=True)
            try:
                return await _run(settings, paths, repository, store, headless, say, afterwards)
            except BranchMoved as error:
                raise UsageError(str(error)) from error
            finally:
                store.close()
                paths.info.unlink(missing_ok=True)


async def _run(
    settings: Settings,
    paths: RunPaths,
    repository: Repository,
    store: Store,
    headless: bool,
    say: Callable[[ev.Record], None],
    afterwards: contextlib.AsyncExitStack,
) -> int:
    _check_journal(paths, store.state)
    _check_judge(settings, repository, store.state)
    settings, budget_why = budget.settled(settings, store.state, has_gpu=gpu.has_driver())
    agent = make_agent(settings, os.environ)
    notifier = Notifier(os.environ, store.show)
    tracking = Tracking(settings.track, paths, store.show)
    server = Server(paths.socket())
    store.listen(server.publish)
    store.listen(say)
    store.listen(runs.Overviews(paths, store.state).take)
    store.listen(lambda record: notifier.tell(record.event, store.state))
    executor = make_executor(settings, paths, repository)
    engine = Engine(
        settings, paths, repository, store, agent, executor, stop_at_limit=headless, unattended=headless
    )
    _on_signals(lambda: engine.stop("stopped by a signal", now=True))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not store.state.tag:
        store.record(_created(settings, paths, repository))
    store.record(_started(settings, budget_why, agent, executor))
    await server.open(engine)
    _write_info(paths, EngineInfo(os.getpid(), __version__, str(server.path)))
    telemetry = asyncio.create_task(watch(store.show))
    await tracking.start(os.environ)

    async def send_the_last() -> None:
        await asyncio.gather(notifier.close(), tracking.close())

    afterwards.push_async_callback(send_the_last)
    try:
        reason = await engine.run()
    finally:
        _on_signals(tracking.hurry)
        if engine.in_a_hurry:
            tracking.hurry()
        telemetry.cancel()
        await server.close()
    return int(headless and (engine.failed or reason.startswith("the baseline")))


def _on_signals(act: Callable[[], None]) -> None:
    """From now on, SIGTERM and ctrl+c do this."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, act)


def _write_info(paths: RunPaths, found: EngineInfo) -> None:
    with open(paths.info, "wb", opener=owner_only) as file:
        file.write(msgspec.json.encode(found))


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


def _started(settings: Settings, budget_why: str, agent: Agent, executor: Executor) -> ev.EngineStarted:
    machines = executor.describe()
    return ev.EngineStarted(
        os.getpid(),
        __version__,
        agent.name,
        model=agent.model,
        budget_s=settings.budget_s,
        budget_why=budget_why,
        timeout_s=settings.timeout,
        sandbox=machines[0].fence,
        approval=settings.approve,
        limits=settings.limits,
        keep_models=settings.keep_models,
        seats=executor.capacity(),
        gpu=", ".join(dict.fromkeys(m.gpu for m in machines if m.gpu)),
    )


def _check_journal(paths: RunPaths, state: RunState) -> None:
    """Raise `UsageError` when the journal is not this run's own: a stranger's may have any file edited."""
    editable = state.editable
    is_inside = os.path.normpath(editable) == editable and not editable.startswith(("/", "../"))
    if state.tag and not (state.tag == paths.tag and is_inside):
        raise UsageError(f"{paths.journal} is not of run {paths.tag}: move its folder away")


def _check_judge(settings: Settings, repository: Repository, state: RunState) -> None:
    """Raise `UsageError` when the code of a run that goes on has no judge, but its numbers need one.

    Versions before 0.2.0 measured in the trainer's own process, which is not believed any more.
    """
    if not state.tag:
        return
    scripts = [word for word in settings.judge_command if word.endswith(".py")]
    missing = [path for path in scripts if repository.read(state.incumbent_commit, path) is None]
    if missing or (state.has_judge and not scripts):
        what = missing[0] if missing else "`judge_command`"
        raise UsageError(
            f"run {state.tag} was begun without {what}, and no other measurement is believed: "
            "start a new run with --tag"
        )


def _check_branch(repository: Repository, paths: RunPaths) -> None:
    """Raise `UsageError` when the run's branch is checked out somewhere, or is not this run's."""
    branch = branch_of(paths.tag)
    if where := repository.checked_out(branch):
        raise UsageError(
            f"branch {branch} is checked out in {where}: this run moves it, so check out another branch there"
        )
    if not paths.journal.exists() and repository.resolve(f"refs/heads/{branch}"):
        raise UsageError(f"branch {branch} exists but its journal does not: choose another --tag")

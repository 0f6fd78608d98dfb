"""The runs of this user on this machine, those of other repositories too, and how each of them goes.

Each engine keeps a short overview of its run beside the journal, so that a list of all runs needs no engine
and reads no journal. A small file in the user's state folder names each run that was ever started.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from platformdirs import user_state_path

from loop import events as ev
from loop.client import Connection, ConnectionLost, RunOverview
from loop.paths import HOME, RunPaths, tags, write_whole
from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped
from loop.service import attach
from loop.service.replay import Replay
from loop.state import RunState

FILE = "overview.json"
LARGEST = 64 * 1024
"""Bytes of an overview that are read: it is far smaller, but a stranger's repository may hold any file."""


def overview(state: RunState, now: float) -> RunOverview:
    """How a run goes, as its list of runs shows it. `now` is in seconds since the epoch."""
    return RunOverview(
        root=state.repository,
        tag=state.tag,
        phase=state.phase,
        attention=attention(state),
        metric=state.metric,
        baseline=state.baseline,
        best=state.best,
        experiments=state.rows,
        kept=state.kept,
        dollars=state.usage.dollars,
        agent=state.engine.agent if state.engine else "",
        began=state.created_at,
        seen=now,
    )


def attention(state: RunState) -> str:
    """What the run wants of the human, in a few words; empty while it wants nothing."""
    if state.stopped is not None:
        return ""
    if state.live.asked:
        return "the agent asks for permission"
    if state.waiting is not None:
        return f"#{state.waiting.n} waits for your approval"
    return f"paused: {state.paused}" if state.paused is not None else ""


class Overviews:
    """Writes the overview of one run whenever something has happened."""

    def __init__(self, paths: RunPaths, state: RunState) -> None:
        self._file, self._state = paths.folder / FILE, state
        note(paths)

    def take(self, record: ev.Record) -> None:
        """Write the overview anew after a durable event, and when a permission is asked or answered."""
        if record.seq or isinstance(record.event, ev.PermissionAsked | ev.PermissionAnswered):
            with contextlib.suppress(OSError):  # a full disk: the list shows what it showed before
                write_whole(self._file, msgspec.json.encode(overview(self._state, record.t)))


def note(paths: RunPaths, folder: Path | None = None) -> None:
    """Remember that this run exists, for `known`; where that cannot be written, it is not listed."""
    folder = folder or _folder()
    name = hashlib.sha256(str(paths.root).encode()).hexdigest()[:16]
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(folder / name, os.fsencode(paths.root))


def known(folder: Path | None = None) -> list[RunOverview]:
    """All runs of all repositories that are remembered: those that want something first, then the newest."""
    roots = []
    for file in sorted((folder or _folder()).glob("*")):
        with contextlib.suppress(OSError):
            roots.append(Path(os.fsdecode(file.read_bytes()[:4096])))
    found = [run for root in roots for tag in tags(root) if (run := _read(RunPaths(root, tag)))]
    return sorted(found, key=lambda run: (not (run.running and run.attention), not run.running, -run.seen))


def opener(run: RunOverview) -> Callable[[], Awaitable[Connection]]:
    """How to connect to a run: to its engine while one is alive, else to its recording."""
    paths = RunPaths(Path(run.root), run.tag)

    async def connect() -> Connection:
        if attach.engine_runs(paths):
            return await attach.connect(paths)
        return Replay(paths, Repository.discover(paths.root))

    return connect


def _read(paths: RunPaths) -> RunOverview | None:
    """The overview of one run; None where it cannot be read. Its folder may hold anything."""
    try:
        data = read_shaped(paths.folder / FILE, LARGEST)
        if data is None or (paths.root / HOME).is_symlink():
            return None
        run = msgspec.json.decode(data, type=RunOverview)
        running = attach.engine_runs(paths)
    except (OSError, msgspec.MsgspecError, ConnectionLost):
        return None
    return msgspec.structs.replace(run, root=str(paths.root), tag=paths.tag, running=running)


def _folder() -> Path:
    return user_state_path("autoresearch-tui") / "runs"

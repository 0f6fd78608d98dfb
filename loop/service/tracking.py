"""Starts a process for each tracker (`loop.tracking`) and shows what it says.

The engine waits for none of them: once it has ended and the run's lock is free, its process gives them some
time for the last things. They read the run's journal and files; nothing goes to them but the end of a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

import msgspec

from loop import events as ev
from loop.errors import UNREADABLE, UsageError
from loop.paths import RunPaths, owner_only
from loop.tracking.tracker import environment

PATIENCE_S = 30.0
"""How long the trackers may take to send the last things when the engine ends."""
HURRY_S = 8.0
"""The same when it was told to end now, or is told so while it waits."""
LINE_MOST = 64 * 1024
"""Bytes of a line that a tracker's process says."""


class Tracking:
    """The processes of a run's trackers."""

    def __init__(self, names: Sequence[str], paths: RunPaths, show: Callable[[ev.LiveEvent], None]) -> None:
        """`show` gets a notice for whatever the human has to know.

        Raises `UsageError` when the package of a tracker is not installed.
        """
        for name in names:
            if importlib.util.find_spec(name) is None:
                raise UsageError(f"--track {name}: pip install 'autoresearch-tui[{name}]'")
        self._names, self._paths, self._show = names, paths, show
        self._log = paths.folder / "tracking.log"
        self._processes: list[asyncio.subprocess.Process] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._patience_s = PATIENCE_S
        self._deadline: asyncio.Timeout | None = None

    async def start(self, environ: Mapping[str, str]) -> None:
        """Start the processes. A start that fails is shown and ends nothing."""
        for name in self._names:
            try:
                process = await self._start(name, environ)
            except OSError as error:
                self._show(ev.Notice("error", f"{name}: its process cannot be started ({error})"))
                continue
            self._processes.append(process)
            self._tasks.append(asyncio.create_task(self._listen(name, process)))

    async def _start(self, name: str, environ: Mapping[str, str]) -> asyncio.subprocess.Process:
        with open(self._log, "ab", opener=owner_only) as log:  # noqa: ASYNC230 - handed on, not written
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "loop.tracking"),
                *(name, str(self._paths.root), self._paths.tag),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self._paths.folder,
                env=environment(name, environ),
                limit=LINE_MOST,
                start_new_session=True,
            )

    async def _listen(self, name: str, process: asyncio.subprocess.Process) -> None:
        """Show what a process says, and that it has ended if nobody asked it to."""
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # a line without end: no more is read
            while line := await process.stdout.readline():
                with contextlib.suppress(*UNREADABLE):
                    self._show(msgspec.json.decode(line, type=ev.Notice))
        code = await process.wait()
        if not self._closing:
            words = f"{name}: its process has ended (exit code {code}, see {self._log}); the research goes on"
            self._show(ev.Notice("error", words))

    def hurry(self) -> None:
        """Have `close` wait `HURRY_S` at most, from now on where it waits already."""
        self._patience_s = HURRY_S
        if self._deadline is not None:
            soon = asyncio.get_running_loop().time() + HURRY_S
            self._deadline.reschedule(min(self._deadline.when() or soon, soon))

    async def close(self) -> None:
        """Let the processes send the last things, for `PATIENCE_S` at most, and end them."""
        self._closing = True
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s) as self._deadline:
                    await asyncio.wait(self._tasks)
            self._deadline = None
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):  # what a library started is in its session
                os.killpg(process.pid, signal.SIGKILL)
        await asyncio.gather(*self._tasks)

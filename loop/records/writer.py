"""The one thread that writes to git and to results.tsv, so that the engine's event loop waits for no lock.

Writes are done one after the other. A write that meets a lock of another process (a ref lock of git, the lock
on results.tsv) is put off and tried again, so it holds up neither the loop nor the writes behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from loop.records.repository import Repository

T = TypeVar("T")

_libc = ctypes.CDLL(None)

PATIENCE_S = 10.0
"""How long a write is tried again while another process holds a lock that it needs."""
WAIT_S = 0.01
"""Pause before the first new try; it doubles up to half a second."""


class Writer:
    """Does writes in a thread of its own, each with a handle of its own on the repository.

    A handle remembers every ref and keeps every pack open that it has met: after thirty days those are many
    megabytes. To open one takes half a millisecond.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")

    async def do(self, write: Callable[[Repository], T]) -> T:
        """Run `write` in the thread and return what it returns; what it raises is raised here.

        It must be repeatable: it is tried again while another process holds a lock, and because git
        gc may remove an empty folder just before something is written there. Raises OSError when that goes on
        for longer than `PATIENCE_S`. A caller that is cancelled does not undo a write that has begun.
        """
        loop = asyncio.get_running_loop()
        deadline, wait = loop.time() + PATIENCE_S, WAIT_S
        while True:
            try:
                return await loop.run_in_executor(self._thread, self._now, write)
            except (BlockingIOError, FileNotFoundError):
                if loop.time() > deadline:
                    raise
            await asyncio.sleep(wait)
            wait = min(2 * wait, 0.5)

    def close(self) -> None:
        """Finish the write that has begun and forget those that have not."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _now(self, write: Callable[[Repository], T]) -> T:
        with contextlib.closing(self._repository.again()) as git:
            git.patience_s = 0.0
            try:
                return write(git)
            finally:
                give_back_memory()


def give_back_memory() -> None:
    """Let malloc give back what it holds and nobody uses; takes a few milliseconds.

    Reading a long results.tsv or the notes of thousands of commits takes some megabytes for a moment, in
    several threads. glibc keeps them for each thread, below something small that is still used: after thirty
    days that was a fifth of an engine's memory. Elsewhere than with glibc nothing happens.
    """
    if sys.platform == "linux" and hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)

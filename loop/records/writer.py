"""The one thread that writes to git and to results.tsv, so that the engine's event loop waits for no lock.

Writes are done one after the other. A write that meets a lock of another process (a ref lock of git, the lock
on results.tsv) is put off and tried again, so it holds up neither the loop nor the writes behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from loop import memory
from loop.records.repository import Repository

T = TypeVar("T")

PATIENCE_S = 10.0
"""How long a write is tried again while another process holds a lock that it needs."""
WAIT_S = 0.01
"""Pause before the first new try; it doubles up to half a second."""


class Writer:
    """Does writes in a thread of its own, with its own handle on the repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository.again()
        self._repository.patience_s = 0.0
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
        self._repository.close()

    def _now(self, write: Callable[[Repository], T]) -> T:
        try:
            return write(self._repository)
        finally:
            self._repository.forget()
            memory.give_back()

"""The one thread that writes to git and to results.tsv, so that the engine's event loop never waits for a
lock.

A ref lock of another git process, a lock on results.tsv or a slow disk can hold a write up for seconds.
Writes are done one after the other, in the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from loop.records.repository import Repository

T = TypeVar("T")


class Writer:
    """Does writes in a thread of its own, with its own handle on the repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = Repository.discover(repository.root)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")

    async def do(self, write: Callable[[Repository], T]) -> T:
        """Run `write` in the thread and return what it returns; what it raises is raised here.

        A caller that is cancelled meanwhile does not undo a write that has begun: all of them can be
        repeated.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, write, self._repository)

    def close(self) -> None:
        """Finish the write that has begun and forget those that have not."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._repository.close()

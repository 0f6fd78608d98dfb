"""The one place where a run changes: events go into the journal, into the state and to whoever listens.

Nothing else appends to the journal or changes the state, so what is on disk, in memory and on every screen
comes from the same events in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from loop import events as ev
from loop import memory
from loop.records.journal import Journal
from loop.state import RunState

Listener = Callable[[ev.Record], None]


class Store:
    """The journal of one run, and the state that its records make."""

    def __init__(self, journal: Journal, state: RunState) -> None:
        """`state` is what the journal's records have made."""
        self._journal, self.state = journal, state
        self._listeners: list[Listener] = []
        self._changed = asyncio.Event()

    @classmethod
    def open(cls, path: Path) -> Store:
        """The store of the journal at `path`, with the state that its records make.

        Raises `JournalError` when the journal cannot be continued.
        """
        state = RunState()
        journal = Journal.open(path, state.apply)
        memory.give_back()  # each line was decoded, and only a part of it is kept
        return cls(journal, state)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def listen(self, listener: Listener) -> None:
        """From now on, call `listener` with every record. Durable ones are on disk by then."""
        self._listeners.append(listener)

    def record(self, event: ev.DurableEvent) -> None:
        """Make a decision durable, then take it into the state and tell everyone.

        Raises OSError when the disk refuses; then nothing has changed anywhere.
        """
        record = self._journal.append(event)
        self.state.apply(record)
        self._tell(record)
        self.wake()

    def show(self, event: ev.LiveEvent) -> None:
        """Take in and tell something that is only shown and never journaled."""
        record = ev.Record(0, time.time(), event)
        self.state.apply(record)
        self._tell(record)

    def wake(self) -> None:
        """Wake everyone who waits for a change, although nothing was recorded."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed(self) -> None:
        """Wait for the next durable event, or for `wake`."""
        await self._changed.wait()

    async def until(self, condition: Callable[[RunState], bool]) -> None:
        """Wait until the state fulfils a condition."""
        while not condition(self.state):
            await self.changed()

    def _tell(self, record: ev.Record) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # a terminal that is gone; the event has happened all the same
                listener(record)

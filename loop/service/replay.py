"""A run that is over, as a connection: the cockpit shows it from the journal and the kept files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec

from loop import events as ev
from loop.client import Refused
from loop.errors import describe
from loop.paths import RunPaths
from loop.records import journal, other_rows, results
from loop.records.archive import KeptArchive
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.state import Experiment, RunState, Training, fold

LONGEST_WAIT_S = 2.0
"""Seconds between two events at most, so that nobody waits for a night in which the engine was off."""


class Replay:
    """Speed 0: all at once. Otherwise `speed` times real time."""

    def __init__(self, paths: RunPaths, repository: Repository, speed: float = 0.0) -> None:
        self._records = journal.read(paths.journal)
        self._paths, self._speed = paths, speed
        whole = fold(self._records)
        whole.stopped = whole.stopped or "end of the recording"
        self._whole = whole
        self._archive = KeptArchive(repository, paths, whole)
        self.state = RunState() if speed else whole
        self._closed = asyncio.Event()
        self._at = self._records[-1].t if self._records else time.time()
        self._since = time.monotonic()

    def now(self) -> float:
        """The recording's clock."""
        return self._at + (time.monotonic() - self._since) * self._speed

    async def records(self) -> AsyncIterator[ev.Record]:
        """All events at the replay's speed; none at speed 0, where `state` holds everything already."""
        if self._speed:
            previous = None
            for record in self._timeline():
                gap = (record.t - previous) / self._speed if previous is not None else 0.0
                if gap > 0.001:
                    await asyncio.sleep(min(gap, LONGEST_WAIT_S))
                previous = self._at = record.t
                self._since = time.monotonic()
                self.state.apply(record)
                yield record
            self.state.stopped = self._whole.stopped
        await self._closed.wait()

    def _timeline(self) -> list[ev.Record]:
        """Durable records and what is kept of the live ones, by time; equal times keep their order."""
        found = list(self._records)
        for e in self._whole.experiments:
            transcript = journal.stream(self._paths.transcript(e.n), ev.AgentDelta)
            found += [ev.Record(0, delta.t, delta) for delta in transcript]
            for training in e.trainings:
                found += self._steps(e.n, training)
        return sorted(found, key=lambda record: record.t)

    def _steps(self, n: int, training: Training) -> list[ev.Record]:
        """The progress of a training. Its lines have no time of their own; it follows from their share of the
        budget."""
        folder = TrainingFolder(self._paths.training(n, training.number))
        return [
            ev.Record(
                0,
                training.started_at + step.fraction * training.budget_s,
                msgspec.structs.replace(step, n=n, training=training.number),
            )
            for step in journal.stream(folder.metrics, ev.Progress)
        ]

    async def send(self, command: ev.AnyCommand) -> str:
        raise Refused("this is a replay: no engine runs")

    async def experiment(self, n: int) -> ev.ExperimentDetail:
        if not 1 <= n <= len(self._whole.experiments):
            raise Refused(f"there is no experiment {n}")
        return await asyncio.to_thread(self._archive.detail, n)

    async def others(self) -> list[Experiment]:
        try:
            lines = await asyncio.to_thread(results.lines, self._paths.results)
        except OSError as error:
            raise Refused(describe(error)) from error
        return other_rows.experiments(other_rows.rows(lines, self._whole))

    async def close(self) -> None:
        self._closed.set()

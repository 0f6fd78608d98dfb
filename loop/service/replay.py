"""A run that is over, as a connection: the cockpit shows it from the journal and the kept files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec

from loop import events as ev
from loop.client import Refused
from loop.paths import RunPaths
from loop.records import journal, other_rows, results
from loop.records.archive import KeptArchive
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.state import Experiment, RunState, Training, fold

LONGEST_WAIT_S = 2.0
"""Between two events of a replay, so that a night the engine was off does not have to be waited for."""


class Replay:
    """Shows everything at once with speed 0, else as it happened, so many times as fast."""

    def __init__(self, paths: RunPaths, repository: Repository, speed: float = 0.0) -> None:
        self._records = journal.read(paths.journal)
        self._paths, self._speed = paths, speed
        whole = fold(self._records)
        whole.stopped = whole.stopped or "end of the recording"
        self._whole = whole
        self._archive = KeptArchive(repository, paths, whole)
        self.state = RunState() if speed else whole
        self._at = self._records[-1].t if self._records else time.time()
        self._since = time.monotonic()

    def now(self) -> float:
        """The recording's clock."""
        return self._at + (time.monotonic() - self._since) * self._speed

    async def records(self) -> AsyncIterator[ev.Record]:
        """The whole stream in its own time; with speed 0 nothing more comes."""
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
        await asyncio.Event().wait()

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
        """The progress of a training. Its lines carry no time of their own: their share of the budget gives
        it."""
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
        return other_rows.experiments(other_rows.rows(results.lines(self._paths.results), self._whole))

    async def close(self) -> None:
        pass

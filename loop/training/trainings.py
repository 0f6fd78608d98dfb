"""The trainings under way: started, shown, stopped where nothing can come of them, accounted for."""

from __future__ import annotations

import asyncio
import time

from msgspec import Struct, field

from loop import events as ev
from loop.judging import early_stop
from loop.records.training_folder import Exit
from loop.training import outcome
from loop.training.executor import Ended, Executor, Job, Lost, Show
from loop.training.follow import FOLLOW_S, Follower

ATTEMPTS = 3
"""A training that is lost without its own doing is started again, up to this many times in all."""


class Terms(Struct, frozen=True):
    """What a training is held against."""

    metric: str
    uses_budget: bool = False
    """The unchanged code trains for its whole budget."""
    incumbent: list[ev.CurvePoint] = field(default_factory=list)
    """The incumbent's loss curve; empty when there is none to compare with."""


class Result(Struct, frozen=True):
    """How one attempt went."""

    event: ev.TrainingFinished | ev.TrainingLost
    damaged: str = ""
    """Training data that it changed: nothing measured after it can be believed."""


class _UnderWay:
    """A training while it goes on."""

    def __init__(self, job: Job, follower: Follower) -> None:
        self.job, self.follower = job, follower
        self.ended: tuple[ev.Outcome, str] | None = None
        """How and why we ended it ourselves."""
        self.ending: asyncio.Task[None] | None = None


class Trainings:
    """Trains on an executor's seats, and knows what trains there now."""

    def __init__(self, executor: Executor, show: Show, *, stop_early: bool = True) -> None:
        self._executor, self._show, self._stop_early = executor, show, stop_early
        self._under_way: dict[tuple[int, int], _UnderWay] = {}

    async def train(self, job: Job, attempt: int, started_at: float, terms: Terms) -> Result:
        """Train to the end and say how it went; a training that survived its engine is taken over.

        `started_at` is when its first attempt started, in seconds since the epoch. When this is cancelled,
        the training's process tree is ended, and nothing is known of the training: it starts again later.
        """
        await self._executor.start(job)
        found = _UnderWay(job, Follower(job.folder, job.n, job.training, self._show))
        self._under_way[job.n, job.training] = found
        looking = asyncio.create_task(self._look(found, terms.incumbent))
        try:
            ended = await self._executor.follow(job)
        except asyncio.CancelledError:
            await self._executor.stop(job)
            raise
        finally:
            del self._under_way[job.n, job.training]
            looking.cancel()
            found.follower.close()
        if isinstance(ended, Lost) and found.ended is None and attempt < ATTEMPTS:
            return Result(ev.TrainingLost(job.n, job.training, attempt, ended.reason), ended.damaged)
        return Result(self._finished(found, ended, started_at, terms), ended.damaged)

    def stop(self, n: int, reason: str) -> bool:
        """End the trainings of experiment `n`: they are then finished as stopped, for this reason.

        Returns False when there is none to stop.
        """
        ended = [self._end(x, "stopped", reason) for (number, _), x in self._under_way.items() if number == n]
        return any(ended)

    def _end(self, found: _UnderWay, outcome: ev.Outcome, reason: str) -> bool:
        if found.ended is not None:
            return False
        found.ended = outcome, reason
        found.ending = asyncio.create_task(self._executor.stop(found.job))
        return True

    async def _look(self, found: _UnderWay, incumbent: list[ev.CurvePoint]) -> None:
        """Read what the trainer prints until cancelled; end it when nothing can come of it any more."""
        while True:
            found.follower.read()
            if self._stop_early and found.ended is None:
                why = early_stop.doomed(found.follower.curve, found.follower.nans, incumbent)
                if why and self._end(found, "doomed", f"stopped early: {why}"):
                    self._show(ev.Notice("info", f"stopped early: {why}"))
            await asyncio.sleep(FOLLOW_S)

    def _finished(
        self, found: _UnderWay, ended: Ended | Lost, started_at: float, terms: Terms
    ) -> ev.TrainingFinished:
        """What the training amounts to, from what it left in its folder."""
        if found.ended is not None:
            exit = Exit(*found.ended, -15, started_at, time.time())
        elif isinstance(ended, Lost):
            reason = f"{ended.reason} {ATTEMPTS} times"
            exit = Exit("crashed", reason, -9, started_at, time.time())
        else:
            exit = ended.exit
        return outcome.finished(
            found.job,
            exit,
            terms.metric,
            steps_s=found.follower.steps_s,
            changed=ended.changed if isinstance(ended, Ended) else [],
            uses_budget=terms.uses_budget,
            fenced=any(place.fence != "off" for place in self._executor.describe()),
        )

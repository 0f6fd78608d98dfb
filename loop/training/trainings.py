"""Runs trainings on an executor's seats: starts, shows and stops them, and says how each of them went."""

from __future__ import annotations

import asyncio
import contextlib
import time

from msgspec import Struct, field

from loop import events as ev
from loop.judging import early_stop, trust
from loop.judging.forecast import Forecast
from loop.records.training_folder import Decision, Exit
from loop.training import outcome
from loop.training.executor import Ended, Executor, Job, Lost, Show
from loop.training.follow import FOLLOW_S, Follower

ATTEMPTS = 3
"""A training that is lost is attempted this many times in all; then it counts as crashed."""


class Comparison(Struct, frozen=True):
    """What a training is compared with."""

    metric: str
    """Name of the number that it has to print."""
    uses_budget: bool = False
    """The unchanged code trains for its whole budget."""
    incumbent: list[ev.CurvePoint] = field(default_factory=list)
    """The incumbent's loss curve; empty when there is none to compare with."""
    forecast: Forecast | None = None
    """What the trainings before it teach; None when they are too few."""


class Result(Struct, frozen=True):
    """How one attempt went."""

    event: ev.TrainingFinished | ev.TrainingLost
    changed_data: str = ""
    """A file of training data that changed meanwhile: no later measurement on that data can be believed."""


class _UnderWay:
    """A training while it goes on."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stopped: tuple[ev.Outcome, str] | None = None
        """The outcome and the reason, once it was decided to stop it."""

    def stop(self, outcome: ev.Outcome, reason: str) -> bool:
        """Decide that it is to be stopped. Returns False when that was decided before."""
        if self.stopped is not None:
            return False
        self.stopped = outcome, reason
        return True


class Trainings:
    """The trainings of one engine."""

    def __init__(self, executor: Executor, show: Show, *, stop_early: bool = True) -> None:
        self._executor, self._show, self._stop_early = executor, show, stop_early
        self._under_way: dict[tuple[int, int], _UnderWay] = {}

    async def train(self, job: Job, attempt: int, started_at: float, comparison: Comparison) -> Result:
        """Train to the end and say how it went; a training that an earlier engine started is taken over.

        `attempt` is counted from 1. `started_at` is when the first attempt started, in seconds since the
        epoch. When this is cancelled, the training's process tree is ended; it has no result, and can be
        trained again later. Raises OSError when it cannot be started, followed or stopped now; call it again.
        """
        training = self._under_way[job.n, job.training] = _UnderWay(job)
        steps_s, place = 0.0, ""
        try:
            if decided := job.folder.read_decision(job.key):  # by an engine that died before it was recorded
                training.stop(decided.outcome, decided.reason)
                await self._executor.stop(job)
                ended: Ended | Lost = Lost(decided.reason)
            else:
                place = await self._executor.start(job)
                self._show(ev.TrainingPlaced(job.n, job.training, place))
                follower = Follower(job, self._show)
                ended = await self._watch(training, follower, comparison)
                steps_s = follower.steps_s
        except asyncio.CancelledError:
            await self._executor.stop(job)
            raise
        finally:
            del self._under_way[job.n, job.training]
        lost = ended.reason if isinstance(ended, Lost) else _stalled(job, ended.exit) if attempt == 1 else ""
        if lost and training.stopped is None and attempt < ATTEMPTS:
            event = ev.TrainingLost(job.n, job.training, attempt, lost, place)
            return Result(event, ended.changed_data)
        finished = outcome.finished(
            job,
            _exit(training, ended, started_at),
            comparison.metric,
            steps_s=steps_s,
            changed=ended.changed if isinstance(ended, Ended) else [],
            uses_budget=comparison.uses_budget,
            place=(ended.place if isinstance(ended, Ended) else "") or place,
            fenced=any(machine.fence != "off" for machine in self._executor.describe()),
        )
        return Result(finished, ended.changed_data)

    def stop(self, n: int, reason: str, training: int | None = None) -> bool:
        """Stop training number `training` of experiment `n`, or all of them that run: they finish with the
        outcome `stopped` and this reason.

        Returns False when there is none to stop.
        """
        found = self._under_way.items()
        wanted = [t for (of, number), t in found if of == n and training in (None, number)]
        stopped = [t.stop("stopped", reason) for t in wanted]
        return any(stopped)

    async def _watch(self, training: _UnderWay, follower: Follower, comparison: Comparison) -> Ended | Lost:
        """Show what the trainer prints until it has ended, and stop it when that was decided."""
        following = asyncio.create_task(self._executor.follow(training.job))
        stopping = False
        try:
            while not following.done():
                follower.read()
                self._decide(training, follower, comparison)
                if training.stopped is not None and not stopping:
                    stopping = True
                    with contextlib.suppress(OSError):  # on a full disk it is ended all the same
                        training.job.folder.decide(Decision(training.job.key, *training.stopped))
                    await self._executor.stop(training.job)
                await asyncio.wait({following}, timeout=FOLLOW_S)
            return following.result()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            follower.close()

    def _decide(self, training: _UnderWay, follower: Follower, comparison: Comparison) -> None:
        """Decide to stop a training that cannot become better than the incumbent any more."""
        if self._stop_early and training.stopped is None:
            given = comparison.incumbent, comparison.forecast
            why = early_stop.doomed(follower.curve, follower.nans, *given)
            if why and training.stop("doomed", f"stopped early: {why}"):
                self._show(ev.Notice("info", f"stopped early: {why}"))


def _stalled(job: Job, exit: Exit) -> str:
    """Why a training gets a second try: the machine stood still for longer than its time may be off, which it
    would pay for. Empty where that was not so, or where its budget is processor time."""
    spec = job.folder.read_spec()
    on_cpu = spec is not None and spec.clock == "cpu"
    if on_cpu or exit.stalled_seconds <= max(trust.OVER * job.budget_s, trust.OVER_S):
        return ""
    return f"the machine stood still for {exit.stalled_seconds:.1f} s"


def _exit(training: _UnderWay, ended: Ended | Lost, started_at: float) -> Exit:
    """How the training's process ended; -15 and -9 are the signals SIGTERM and SIGKILL."""
    if training.stopped is not None:
        result, reason = training.stopped
        return Exit(result, reason, exit_code=-15, started=started_at, ended=time.time())
    if isinstance(ended, Lost):
        reason = f"{ended.reason} {ATTEMPTS} times"
        return Exit("crashed", reason, exit_code=-9, started=started_at, ended=time.time())
    return ended.exit

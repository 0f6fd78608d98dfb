"""The loop: propose -> train -> judge -> log, until stopped.

    proposing -> (waiting) -> queued -> training -> judging -> keep | discard | crash -> row written

The engine asks the agenda what is next and starts one task for each step that is not under way already. A
step records what it decides as events, journaled before they take effect; each event changes the state, and
with it the agenda. Nothing that it holds in memory has to survive, so a restart is: replay the journal, then
do what the agenda says.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from functools import partial

from loop import agenda
from loop import events as ev
from loop.agents.base import Agent
from loop.config import Settings
from loop.errors import BranchMoved, describe
from loop.experiment import format_row
from loop.judging import verdict
from loop.judging.forecast import LEAST, NEWEST, Ended, Forecast
from loop.judging.history import reference
from loop.judging.needed import needed
from loop.judging.short import short_reason
from loop.paths import RunPaths
from loop.proposing import shares
from loop.proposing.candidates import Candidates
from loop.proposing.conversation import Conversations
from loop.proposing.proposer import Proposer
from loop.records import models, results
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.records.verdict_log import VerdictLog
from loop.records.writer import Writer
from loop.state import Experiment, Training
from loop.store import Store
from loop.training.executor import Executor, Job, PrepareFailed
from loop.training.trainings import Comparison, Result, Trainings

RETRY_S = 10.0
"""Pause between two attempts at something that the disk refuses."""

Key = tuple[str, int]
"""`Step.key`: the kind of step and its experiment (for `Train` the seat, for `Pause` and `Stop` 0)."""


class Engine:
    """Researches one run: `store` holds what has happened, `executor` has the seats where trainings run.

    What is public is what `loop/service` uses: its commands and its server.
    """

    def __init__(
        self,
        settings: Settings,
        paths: RunPaths,
        repository: Repository,
        store: Store,
        agent: Agent,
        executor: Executor,
        *,
        stop_at_limit: bool = False,
        unattended: bool = False,
    ) -> None:
        """`unattended`: where the run would pause because something has failed, it ends."""
        self.settings, self.paths, self.repository = settings, paths, repository
        self.store, self.state = store, store.state
        self.agent, self.executor = agent, executor
        self.rules = agenda.Rules(
            judging=settings.rules,
            ahead=settings.ahead,
            proposers=settings.proposers,
            filler=shares.filler(settings.agents),
            repairs=settings.fix_attempts,
            stop_at_limit=stop_at_limit,
        )
        self._writer = Writer(repository)
        self._candidates = Candidates(settings, repository, self._writer, store)
        conversations = Conversations(
            agent, settings, paths, repository, self._candidates, store, self._at_once
        )
        self.answers = conversations.answers
        """Whether questions get an answer, or are a message to the agent like any other."""
        self.archive, self.permissions = conversations.archive, conversations.permissions
        self.proposer = Proposer(conversations, self._candidates, store, self._halt)
        self.trainings = Trainings(executor, store.show, stop_early=settings.stop_doomed)
        self._verdict_log = VerdictLog(self._writer, paths, store.state)
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._interruptible: set[asyncio.Task[None] | None] = set()
        """Tasks that wait for a human, the disk or another step. An engine that is to end cancels them."""
        self._unrecorded: dict[str, Result] = {}
        """How trainings went whose end the disk refused to record: they are not trained again for that."""
        self._unattended = unattended
        self._stop_now = False
        self._reason = ""
        self.failed = False
        """It ended because of something that a human has to mend."""

    # --- the loop ---

    async def run(self) -> str:
        """Research until stopped; returns why it ended."""
        try:
            await self._recover()
            while not self._may_end():
                for step in self._next():
                    if step.key not in self._tasks:
                        self._begin(step)
                await self.store.changed()
                self._raise_failures()
        finally:
            await self._close()
        reason = self.state.stopping or self._reason
        with contextlib.suppress(OSError):  # if this event cannot be written, a restart works all the same
            self.store.record(ev.EngineStopped(reason))
        return reason

    @property
    def in_a_hurry(self) -> bool:
        """It was told to end now."""
        return self._stop_now

    def stop(self, reason: str, *, now: bool) -> None:
        """End once trainings, verdicts and rows under way have ended; proposals are given up.

        With `now` the trainings are ended too; they start again with the next engine.
        """
        self._stop_now = self._stop_now or now
        self._reason = self._reason or reason
        try:
            if self.state.stopping is None:
                self.store.record(ev.EngineStopping(reason))
        except OSError:  # the disk is full, so the end of a training could not be recorded either
            self._stop_now = True
        self.store.wake()

    def _halt(self, reason: str, *, failed: bool = True) -> None:
        """Start nothing new: something has failed, and a human has to mend it; or else the money is spent.

        The run pauses. An engine that nobody looks at ends instead: it would wait for ever.
        """
        if self._unattended if failed else self.rules.stop_at_limit:
            self.failed = self.failed or failed
            self.stop(reason, now=False)
        else:
            self._pause(reason)

    def _pause(self, reason: str) -> None:
        """Start nothing new until the human says so, and tell why."""
        if self.state.paused is None:
            self.store.record(ev.Paused(reason, "engine"))
        self.store.show(ev.Notice("warning", reason))

    def _next(self) -> list[agenda.Step]:
        return agenda.agenda(self.state, self.rules, self.executor.capacity(), time.time())

    def _at_once(self) -> int:
        """How many conversations with agents may go on at once."""
        return agenda.at_once(self.state, self.rules, self.executor.capacity())

    def _begin(self, step: agenda.Step) -> None:
        task = asyncio.create_task(self._retry_on_disk_error(step))
        self._tasks[step.key] = task
        task.add_done_callback(partial(self._ended, step.key))

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        """A step has ended. Its task is forgotten, unless it failed: `_raise_failures` raises its error."""
        if task.cancelled() or task.exception() is None:
            del self._tasks[key]
        self.store.wake()

    def _raise_failures(self) -> None:
        """Raise what a step raised: an error that is not expected must be seen, not passed over."""
        for task in self._tasks.values():
            if task.done():
                task.result()

    def _may_end(self) -> bool:
        """The engine was asked to end, and each step that is left only waits."""
        if self._stop_now or self.state.stopping is None:
            return self._stop_now
        waiting = {key for key, task in self._tasks.items() if task in self._interruptible}
        return all(step.key in waiting for step in self._next())

    async def _close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.executor.close()
        await self.agent.close()
        self._writer.close()

    async def _recover(self) -> None:
        """After a restart: write refs that a kill prevented, end trainers that the journal does not know.

        Trainings that it knows are on the agenda as `Train`, and the executor finds them again.
        """
        with contextlib.suppress(OSError):
            await self._candidates.put_right()
        known = [
            training
            for started in self.state.under_way
            for training in self.state.experiment(started.n).trainings
            if training.number == started.training
        ]
        await self.executor.sweep([self._job(training).key for training in known])

    # --- the steps ---

    async def _do(self, step: agenda.Step) -> None:
        match step:
            # propose
            case agenda.StartBaseline(n=n):
                await self._candidates.start_baseline(n)
            case agenda.Propose(n=n, agent=name):
                await self.proposer.propose(n, name)
            case agenda.Answer(n=id):
                await self.proposer.answer(id)
            case agenda.Repair(n=n, reason=reason):
                await self.proposer.repair(n, reason)
            case agenda.AskApproval(n=n) if step in self._next():  # a command may have come first
                self.store.record(ev.ApprovalRequested(n))
            case agenda.SkipApproval(n=n) if step in self._next():
                self.store.record(ev.Approved(n))
            # train
            case agenda.CarryOver(n=n):
                await self._candidates.carry_over(self.state.experiment(n))
            case agenda.Train():
                await self._train(step)
            # judge
            case agenda.Judge(n=n):
                await self._judge(self.state.experiment(n))
            # log
            case agenda.WriteRow(n=n):
                await self._write_row(self.state.experiment(n))
            # limits
            case agenda.Pause(reason=reason):
                self._pause(reason)
            case agenda.Stop(reason=reason):
                self.stop(reason, now=False)

    async def _train(self, step: agenda.Train) -> None:
        """Start a training, or follow one that still runs after a restart, and record how it ended."""
        e = self.state.experiment(step.n)
        if not self._has_started(step) and not await self._start(step, e):
            return
        training = next(t for t in e.trainings if t.number == step.training)
        job = self._job(training)
        result = self._unrecorded.get(job.key) or await self.trainings.train(
            job, training.attempt, training.started_at, await asyncio.to_thread(self._comparison, e)
        )
        self._unrecorded[job.key] = result
        with self._may_be_interrupted():  # the row of an earlier verdict comes first: this changes its mean
            await self.store.until(lambda s: e.n not in s.rows_due)
        self.store.record(result.event)
        del self._unrecorded[job.key]
        if isinstance(result.event, ev.TrainingFinished) and result.event.outcome == "finished":
            self._warn(e, result.event.reason)  # such as processes that it left behind
        if result.changed_data:
            what = f"training changed the data ({result.changed_data})"
            self._halt(f"{what}: prepare it again, then resume")

    async def _start(self, step: agenda.Train, e: Experiment) -> bool:
        """Record the start of a new training once its data is there; False when it is not next any more."""
        try:
            await self.executor.prepare(e.commit, self.store.show)
        except PrepareFailed as error:
            self._halt(str(error))
            return False
        if step not in self._next():
            return False
        self.store.record(
            ev.TrainingStarted(
                step.n,
                step.training,
                e.commit,
                seed=step.seed,
                budget_s=self.settings.budget_s,
                seat=step.seat,
                why=step.why,
                needed=needed(self.state, e, self.rules.judging),
            )
        )
        return True

    def _has_started(self, step: agenda.Train) -> bool:
        """Whether this very step is under way: on another seat, its training is another step's."""
        found = ((t.n, t.training, t.seat) for t in self.state.under_way)
        return (step.n, step.training, step.seat) in found

    def _warn(self, e: Experiment, reason: str) -> None:
        if reason:
            self.store.show(ev.Notice("warning", f"experiment {e.n}: {reason}"))

    def _job(self, training: Training) -> Job:
        """What the executor is told of a training's present attempt."""
        started = training.started
        return Job(
            key=f"{self.paths.identity}-{started.n}-{started.training}-{training.attempt}",
            n=started.n,
            training=started.training,
            commit=started.commit,
            seed=started.seed,
            budget_s=started.budget_s,
            seat=started.seat,
            folder=TrainingFolder(self.paths.training(started.n, started.training)),
            editable=self.state.editable,
            reference=models.claims(self.paths, self.state),
        )

    def _comparison(self, e: Experiment) -> Comparison:
        """What the training of an experiment is compared with, and the metric.

        It reads loss curves: call it in a thread.
        """
        s = self.state
        if s.incumbent is None or e.commit == s.incumbent_commit or not self.settings.stop_doomed:
            return Comparison(s.metric, s.uses_budget)
        curve, best = self.archive.curve(s.incumbent), s.best
        ended = list(self.archive.ended(NEWEST))
        forecast = None
        if best is not None and len(ended) >= LEAST:
            forecast = Forecast(Ended(curve, best), ended, minimise=s.direction == "min")
        return Comparison(s.metric, s.uses_budget, curve, forecast)

    async def _judge(self, e: Experiment) -> None:
        text = await self._verdict_log.text()
        judged = verdict.judge(self.state, e, self.rules.judging)
        if agenda.Judge(e.n) not in self._next() or isinstance(judged, verdict.Rerun):
            return  # while results.tsv was read, the state changed: the agenda says what is next now
        row = format_row(e.commit, judged.value, judged.memory_gb, judged.status, e.description)
        self.store.record(
            ev.Judged(
                e.n,
                judged.status,
                e.commit,
                value=judged.value,
                memory_gb=judged.memory_gb,
                reason=judged.reason,
                delta=judged.delta,
                evidence=judged.evidence,
                stderr=judged.stderr,
                trainings=judged.trainings,
                incumbent=reference(self.state, e).commit if self.state.incumbent else "",
                short=short_reason(self.state, e, judged),
                copies=results.count(text, row),  # one more of them after a kill means that ours was written
            )
        )

    async def _write_row(self, e: Experiment) -> None:
        """Write branch, note and row of a verdict, and delete the models that are no longer worth keeping.

        If someone moved the branch, a human has to mend that.
        """
        try:
            copies = await self._verdict_log.write(e)
        except BranchMoved as error:
            self._halt(str(error))
            with self._may_be_interrupted():
                await self.store.until(lambda s: s.paused is None and s.stopping is None)
        else:
            await models.thin(self.paths, self.state, e.n)
            self.store.record(ev.Logged(e.n, copies))
            self.repository.forget()

    # --- waiting ---

    async def _retry_on_disk_error(self, step: agenda.Step) -> None:
        """Do a step. When the disk refuses, say so and wait: the step is still on the agenda afterwards."""
        try:
            await self._do(step)
        except OSError as error:
            self.store.show(ev.Notice("error", f"{describe(error)}; trying again every {RETRY_S:g} s"))
            with self._may_be_interrupted():
                await asyncio.sleep(RETRY_S)

    @contextlib.contextmanager
    def _may_be_interrupted(self) -> Iterator[None]:
        """While a step is in here, an engine that is to end does not wait for it."""
        task = asyncio.current_task()
        self._interruptible.add(task)
        self.store.wake()
        try:
            yield
        finally:
            self._interruptible.discard(task)

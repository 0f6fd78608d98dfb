"""The loop: propose -> train -> judge -> log, until stopped.

The engine asks the agenda what is next and starts one task for each step that is not under way already. A
step records what it decides as events, journaled before they take effect; each event changes the state, and
with it the agenda. The engine remembers nothing else, so a restart is: replay the journal, then do what the
agenda says.
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
from loop.paths import RunPaths
from loop.proposing.candidates import Candidates
from loop.proposing.conversation import Conversations
from loop.proposing.proposer import Proposer
from loop.records import models
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.records.verdict_log import VerdictLog
from loop.records.writer import Writer
from loop.state import Experiment, Training
from loop.store import Store
from loop.training.executor import Executor, Job, PrepareFailed
from loop.training.trainings import Terms, Trainings

RETRY_S = 10.0
"""Pause between two attempts at something that the disk refuses."""

Key = tuple[str, int]


class Engine:
    """Researches one run: `store` holds what has happened, `executor` has the seats where trainings run."""

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
    ) -> None:
        self.settings, self.paths, self.repository = settings, paths, repository
        self.store, self.state = store, store.state
        self.agent, self.executor = agent, executor
        self.rules = agenda.Rules(
            judging=settings.rules,
            ahead=settings.ahead,
            repairs=settings.fix_attempts,
            stop_at_limit=stop_at_limit,
        )
        self._writer = Writer(repository)
        self._candidates = Candidates(settings, repository, self._writer, store)
        conversations = Conversations(agent, settings, paths, repository, self._candidates, store)
        self.archive, self.permissions = conversations.archive, conversations.permissions
        self.proposer = Proposer(conversations, self._candidates, store)
        self.trainings = Trainings(executor, store.show, stop_early=settings.stop_doomed)
        self._verdict_log = VerdictLog(self._writer, paths, store.state)
        self._under_way: dict[Key, asyncio.Task[None]] = {}
        self._waiting: set[asyncio.Task[None] | None] = set()
        """Tasks that wait for a human or for the disk in the middle of a step."""
        self._stop_now = False
        self._reason = ""

    # --- the loop ---

    async def run(self) -> str:
        """Research until stopped; returns why it ended."""
        try:
            await self._put_right()
            while not self._over():
                for step in self._next():
                    if step.key not in self._under_way:
                        self._begin(step)
                await self.store.changed()
        finally:
            await self._close()
        reason = self.state.stopping or self._reason
        with contextlib.suppress(OSError):  # a journal without this last word is as good after a restart
            self.store.record(ev.EngineStopped(reason))
        return reason

    def stop(self, reason: str, *, now: bool) -> None:
        """End after what is under way, or `now`; then the training under way starts again next time."""
        self._stop_now = self._stop_now or now
        self._reason = self._reason or reason
        try:
            if self.state.stopping is None:
                self.store.record(ev.EngineStopping(reason))
        except OSError:  # the disk is full: nothing that is under way can end either
            self._stop_now = True
        self.store.wake()

    def _next(self) -> list[agenda.Step]:
        return agenda.agenda(self.state, self.rules, self.executor.capacity(), time.time())

    def _begin(self, step: agenda.Step) -> None:
        task = asyncio.create_task(self._patiently(step))
        self._under_way[step.key] = task
        task.add_done_callback(partial(self._ended, step.key))

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        """A step has ended: its task is forgotten, unless it failed, which `_over` has to see."""
        if task.cancelled() or task.exception() is None:
            del self._under_way[key]
        self.store.wake()

    def _over(self) -> bool:
        """Nothing is left that an engine that was asked to end still finishes. Raises what a step raised."""
        for task in self._under_way.values():
            if task.done():
                task.result()
        if self._stop_now or self.state.stopping is None:
            return self._stop_now
        waiting = {key for key, task in self._under_way.items() if task in self._waiting}
        return all(step.key in waiting for step in self._next())

    async def _close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.executor.close()
        await self.agent.close()
        self._writer.close()

    async def _put_right(self) -> None:
        """After a restart: mend refs that a kill left behind, end trainers that nobody knows any more."""
        with contextlib.suppress(OSError):
            await self._candidates.put_right()
        known = [
            t for s in self.state.under_way for t in self.state.experiment(s.n).trainings if not t.finished
        ]
        await self.executor.sweep([self._job(training).key for training in known])

    # --- the steps ---

    async def _do(self, step: agenda.Step) -> None:
        match step:
            case agenda.StartBaseline(n=n):
                await self._candidates.start_baseline(n)
            case agenda.Propose(n=n):
                await self.proposer.propose(n)
            case agenda.Repair(n=n, reason=reason):
                await self.proposer.repair(n, reason)
            case agenda.AskApproval(n=n):
                self.store.record(ev.ApprovalRequested(n))
            case agenda.WaiveApproval(n=n):
                self.store.record(ev.Approved(n))
            case agenda.CarryOver(n=n):
                await self._candidates.carry_over(self.state.experiment(n))
            case agenda.Train():
                await self._train(step)
            case agenda.Judge(n=n):
                await self._judge(self.state.experiment(n))
            case agenda.WriteRow(n=n):
                await self._write_row(self.state.experiment(n))
            case agenda.Pause(reason=reason):
                self.proposer.pause(reason)
            case agenda.Stop(reason=reason):
                self.stop(reason, now=False)

    async def _train(self, step: agenda.Train) -> None:
        """One attempt at a training: a new one, or one that is still running after a restart."""
        e = self.state.experiment(step.n)
        if not self._is_under_way(step) and not await self._start(step, e):
            return
        training = next(t for t in e.trainings if t.number == step.training)
        job = self._job(training)
        result = await self.trainings.train(job, training.attempt, training.started_at, self._terms(e))
        with self._waits():  # the row of a verdict is written before another training changes what it says
            await self.store.until(lambda s: e.n not in s.unlogged)
        self.store.record(result.event)
        if isinstance(result.event, ev.TrainingFinished) and result.event.outcome == "finished":
            self._warn(e, result.event.reason)
        if result.damaged:
            what = f"training changed the data ({result.damaged})"
            self.proposer.pause(f"{what}: prepare it again, then resume")

    async def _start(self, step: agenda.Train, e: Experiment) -> bool:
        """Announce a new training once the data is there; False when another step is next by then."""
        try:
            await self.executor.prepare(e.commit, self.store.show)
        except PrepareFailed as error:
            self.proposer.pause(str(error))
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
            )
        )
        return True

    def _is_under_way(self, step: agenda.Train) -> bool:
        return any((t.n, t.training) == (step.n, step.training) for t in self.state.under_way)

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
        )

    def _terms(self, e: Experiment) -> Terms:
        """What the training of an experiment is held against."""
        s = self.state
        compared = s.incumbent is not None and e.commit != s.incumbent_commit
        curve = self.archive.curve(s.incumbent) if compared and s.incumbent else []
        return Terms(s.metric, s.uses_budget, curve)

    async def _judge(self, e: Experiment) -> None:
        lines = await self._verdict_log.lines()
        judged = verdict.judge(self.state, e, self.rules.judging)
        if agenda.Judge(e.n) not in self._next() or isinstance(judged, verdict.Rerun):
            return  # while results.tsv was read, something changed what this is compared with
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
                incumbent=self.state.incumbent_commit if self.state.incumbent else "",
                copies=lines.count(row),
            )
        )

    async def _write_row(self, e: Experiment) -> None:
        """Make the verdict true outside, and delete the models that are no longer worth keeping.

        If somebody moved the branch, wait until a human has mended it and resumes.
        """
        try:
            await self._verdict_log.write(e)
        except BranchMoved as error:
            self.proposer.pause(str(error))
            with self._waits():
                await self.store.until(lambda s: s.paused is None)
        else:
            await models.thin(self.paths, self.state)
            self.store.record(ev.Logged(e.n))

    # --- waiting ---

    async def _patiently(self, step: agenda.Step) -> None:
        """Do a step. When the disk refuses, say so and wait: the step is still on the agenda afterwards."""
        try:
            await self._do(step)
        except OSError as error:
            self.store.show(ev.Notice("error", f"{describe(error)}; trying again every {RETRY_S:g} s"))
            with self._waits():
                await asyncio.sleep(RETRY_S)

    @contextlib.contextmanager
    def _waits(self) -> Iterator[None]:
        """In the middle of a step; an engine that is to end does not wait for it."""
        task = asyncio.current_task()
        self._waiting.add(task)
        self.store.wake()
        try:
            yield
        finally:
            self._waiting.discard(task)

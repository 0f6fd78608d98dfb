"""The loop: propose -> train -> judge -> log, until stopped.

Three coroutines share one `RunState`, and each does what the state says is next of its kind, so that none
waits for another: `_next_proposal` keeps a candidate ready, and repairs crashes, while the previous one
trains; `_next_work` trains and judges; `_next_row` writes down what was judged, once the next trainer runs.
None remembers anything of its own: each decision is an event, journaled before it takes effect, and every
effect can be repeated. So a restart is: replay the journal, then go on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from loop import events as ev
from loop import state
from loop.agents.base import Agent, AgentFailed, AgentStopped, NoProposal, Proposal
from loop.config import Settings
from loop.errors import BranchMoved, describe
from loop.judging import limits, verdict
from loop.paths import RunPaths
from loop.proposing.candidates import Candidates
from loop.proposing.proposer import Proposer
from loop.proposing.repairs import Repairs
from loop.records.journal import Journal
from loop.records.repository import Repository
from loop.records.verdict_log import Ledger
from loop.state import Experiment, RunState
from loop.training.local import Executor, Job
from loop.training.prepare import PrepareFailed

T = TypeVar("T")
Publish = Callable[[ev.Record], None]
Step = Callable[[], Coroutine[Any, Any, None]]

RETRY_S = 10.0
"""Pause between two attempts at something the disk refuses."""
AGENT_PATIENCE = 3
"""Proposals in a row that may fail before the engine pauses."""


class Engine:
    """One run of research. `publish` gets every record: durable ones after they are on disk."""

    def __init__(
        self,
        settings: Settings,
        paths: RunPaths,
        repository: Repository,
        journal: Journal,
        state: RunState,
        agent: Agent,
        publish: Publish,
        *,
        stop_at_limit: bool = False,
    ) -> None:
        self.settings, self.paths, self.repository = settings, paths, repository
        self.state, self.agent = state, agent
        self._proposer = Proposer(agent, settings, paths, repository, state, self.show)
        self.archive, self.questions = self._proposer.archive, self._proposer.questions
        self._candidates = Candidates(settings, repository, state, self.record, self.show)
        self._repairs = Repairs(settings, state, self._proposer, self._candidates)
        self._ledger = Ledger(repository, paths, state)
        self.executor = Executor(settings, paths, repository, self.show, lambda: self._changed.set())
        self._journal, self._publish, self._stop_at_limit = journal, publish, stop_at_limit
        self._changed = asyncio.Event()
        self._prepared = False
        self._failed_proposals = 0
        self._stopping: str | None = None
        self._blocked = 0
        """Coroutines that wait for a human or the disk in the middle of a step."""
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- the outside ---

    async def run(self) -> str:
        """Research until stopped; returns why it ended."""
        self._pause_at_limit()
        tasks: list[asyncio.Future[None]] = [
            asyncio.create_task(self._forever(self._next_proposal)),
            asyncio.create_task(self._forever(self._next_work, self._put_right)),
            asyncio.create_task(self._forever(self._next_row)),
        ]
        try:
            await asyncio.wait({self._stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # a coroutine that ended has failed: let it be seen
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.executor.close()
            await self.agent.close()
        assert self._stopping is not None, "only `stop` ends the wait without an error"
        self.record(ev.EngineStopped(self._stopping))
        return self._stopping

    def stop(self, reason: str, *, now: bool) -> None:
        """End after the run under way, or `now`; then the run under way is trained again next time."""
        self._stopping = reason
        self._changed.set()
        self._end_if_idle(now)

    def _end_if_idle(self, now: bool = False) -> None:
        waits = self._blocked and not self.state.running
        if self._stopping and (now or waits or not self._busy()) and not self._stopped.done():
            self._stopped.set_result(None)

    async def _forever(self, following: Callable[[], Step | None], first: Step | None = None) -> None:
        """Do what `following` gives whenever it gives something."""
        if first:
            await self._patiently(first)
        while True:
            await self._patiently(await self._until(following))
            self._end_if_idle()

    def stop_training(self, reason: str) -> bool:
        """End the training process under way as discarded; False when none runs."""
        return self.executor.stop_training(reason)

    def replace_candidate(self, e: Experiment, source: str) -> None:
        """Put a human's version in place of a waiting candidate."""
        self._candidates.commit(e.n, e.parent, Proposal(e.description, source, e.hypothesis), author="human")
        self._ask_approval(e.n)

    @staticmethod
    def now() -> float:
        return time.time()

    def record(self, event: ev.DurableEvent) -> None:
        """Journal, apply and publish a decision."""
        record = self._journal.append(event)
        self.state.apply(record)
        self._publish(record)
        self._changed.set()

    def show(self, event: ev.LiveEvent) -> None:
        """Apply and publish something that is only shown."""
        record = ev.Record(0, time.time(), event)
        self.state.apply(record)
        self._publish(record)

    # --- proposing ---

    def _next_proposal(self) -> Step | None:
        s = self.state
        if s.paused or self._stopping:
            return None
        for e, judged in verdict.due(s, self.settings.rules):
            if self._repairs.possible(e, judged):
                return lambda e=e, why=judged.reason: self._repair(e, why)  # type: ignore[misc]
        ahead = [e for e in s.experiments[-50:] if e.phase in ("proposing", "waiting", "queued")]
        lost = next((e for e in ahead if e.phase == "proposing"), None)
        if lost is None and (len(ahead) >= self.settings.ahead or self._enough()):
            return None
        n = lost.n if lost else len(s.experiments) + 1
        if s.incumbent is None:
            busy = any(e.phase in ("training", "judging", "queued") for e in s.experiments)
            return None if busy else (lambda: self._propose_baseline(n))
        return lambda: self._propose(n)

    def _enough(self) -> bool:
        """What is under way will reach the limit."""
        most = self.state.limits.max_experiments
        open_ones = sum(not e.judged and e.phase != "rejected" for e in self.state.experiments[-50:])
        return most is not None and self.state.rows + open_ones >= most

    async def _propose_baseline(self, n: int) -> None:
        """The first experiment of a run is the unchanged code: every later number is measured against it."""
        base = self.state.base
        self.record(ev.ExperimentStarted(n, base))
        self.record(ev.CandidateCommitted(n, base, base, "baseline", author="engine"))
        self.repository.keep_candidate(self.state.tag, n, base)

    async def _propose(self, n: int) -> None:
        """Let the agent work out experiment `n` against the incumbent of now, or put near misses together."""
        parent = self.state.incumbent_commit
        if n > len(self.state.experiments) or self.state.experiment(n).parent != parent:
            self.record(ev.ExperimentStarted(n, parent))
        if self._candidates.combine(n, parent):
            self._ask_approval(n)
            return
        context = self._proposer.context(n, parent)
        try:
            proposal, heard = await self._proposer.ask(context)
        except AgentStopped as error:
            self._spent(n, error)
            self._pause(str(error))
            return
        except AgentFailed as error:
            self._spent(n, error)
            self._failed(str(error))
            return
        self._proposer.keep_notes(proposal, context.notes)
        if refused := self._candidates.commit(n, parent, proposal, heard):
            self._proposer.say(n, "error", refused)
            self._failed(refused)
            return
        self._failed_proposals = 0
        self._ask_approval(n)

    async def _repair(self, e: Experiment, reason: str) -> None:
        """Give a crash back to the agent: a new candidate, or the crash is final."""
        try:
            await self._repairs.repair(e, reason)
        except AgentStopped as error:
            self._spent(e.n, error)
            self._pause(str(error))  # the crash is still there: it is asked about again
        except AgentFailed as error:
            self._spent(e.n, error)
        self._changed.set()

    def _failed(self, reason: str) -> None:
        """A proposal led nowhere; after a few in a row a human has to look."""
        self._failed_proposals += 1
        if self._failed_proposals >= AGENT_PATIENCE:
            self._failed_proposals = 0
            self._pause(f"the agent gave no proposal {AGENT_PATIENCE} times in a row: {reason}")

    def _spent(self, n: int, error: NoProposal) -> None:
        """Say why an attempt led nowhere, and count what it cost all the same."""
        self._proposer.say(n, "error", str(error))
        if error.usage != ev.Usage():
            self.record(ev.Spent(n, error.usage))
            self._pause_at_limit()

    def _ask_approval(self, n: int) -> None:
        if self._needs_approval(self.state.experiment(n)):
            self.record(ev.ApprovalRequested(n))

    def _needs_approval(self, e: Experiment) -> bool:
        return self.state.approval and e.phase == "queued" and not e.approved and e.commit != self.state.base

    # --- training and judging ---

    async def _put_right(self) -> None:
        """After a restart: a kill may have come between the journal and a ref; approval may be off now."""
        for e in self.state.experiments[-50:]:
            if e.commit:
                self.repository.keep_candidate(self.state.tag, e.n, e.commit)
            if e.phase == "waiting" and not self.state.approval:
                self.record(ev.Approved(e.n))

    def _busy(self) -> bool:
        return self._begun() is not None or self._unlogged() is not None

    def _next_work(self) -> Step | None:
        """What the state says is next; things begun before things new."""
        s = self.state
        begun = self._begun()
        if begun or s.paused or self._stopping:
            return begun
        if again := verdict.rerun(s, self.settings.rules):
            return lambda: self._train_again(again)
        for e in s.experiments[-50:]:
            self._ask_approval(e.n)
        first = next((e for e in s.queue if e.phase == "queued"), None)
        return None if first is None else (lambda: self._start(first))

    def _begun(self) -> Step | None:
        """A step that is under way, or a verdict that is due."""
        s = self.state
        if running := s.training:
            return lambda: self._train(running)
        for e, judged in verdict.due(s, self.settings.rules):
            if self._stopping or not self._repairs.possible(e, judged):
                return lambda e=e, judged=judged: self._judge(e, judged)  # type: ignore[misc]
        return None

    async def _start(self, e: Experiment) -> None:
        """Train a candidate that is next, on top of the incumbent of now."""
        if not await self._prepare(e.commit):
            return
        if e.parent != self.state.incumbent_commit and not self._candidates.carry_over(e):
            return
        if not self.state.paused and e.phase == "queued":
            await self._train(e)

    async def _train_again(self, again: verdict.Rerun) -> None:
        """One more run of a commit, with another seed."""
        e = self.state.experiment(again.n)
        if await self._prepare(e.commit) and not self.state.paused:
            await self._train(e, again.reason)

    async def _prepare(self, commit: str) -> bool:
        """The data is there, once in an engine's life; False when it is not, and then we are paused."""
        if not self._prepared:
            try:
                await self.executor.prepare(commit)
            except PrepareFailed as error:
                self._pause(str(error))
                return False
            self._prepared = True
        return True

    async def _train(self, e: Experiment, why: str = "") -> None:
        """One training process, new or found still running after a restart."""
        if self.state.running != e.n:
            number = len(e.trainings) + 1
            seed = self.executor.seed(number)
            self.record(ev.TrainingStarted(e.n, number, e.commit, seed, self.settings.budget_s, why=why))
        run, s = e.last_training, self.state
        assert run is not None, "TrainingStarted adds a run"
        curve = self.archive.curve(s.incumbent) if s.incumbent and e.commit != s.incumbent_commit else []
        job = Job(e.n, run, s.metric, s.editable, s.uses_budget, curve)
        finished = await self.executor.train(job)
        while e.judged and not e.logged:  # its row is written before another run changes what it says
            await self._log(e)
        self.record(finished)
        if finished.outcome == "finished" and finished.reason:
            self.show(ev.Notice("warning", f"experiment {e.n}: {finished.reason}"))
        if self.executor.damage:
            self._pause(f"training changed the data ({self.executor.damage}): prepare it again, then resume")

    async def _judge(self, e: Experiment, judged: verdict.Verdict) -> None:
        row = state.format_row(e.commit, judged.value, judged.memory_gb, judged.status, e.description)
        copies = self._ledger.copies(row)
        incumbent = self.state.incumbent_commit if self.state.incumbent else ""
        self.record(
            ev.Judged(
                e.n, judged.status, e.commit, judged.value, judged.memory_gb, judged.reason, judged.delta,
                judged.evidence, judged.stderr, judged.trainings, incumbent, copies,
            )
        )  # fmt: skip
        self._pause_at_limit()

    # --- logging ---

    def _unlogged(self) -> Experiment | None:
        return next((e for e in self.state.experiments if e.judged and not e.logged), None)

    def _next_row(self) -> Step | None:
        """A verdict to write down, but not while a trainer is about to start: nothing waits for a row."""
        starting = self.state.running is not None and self.executor.supervisor is None
        if (e := self._unlogged()) is None or starting or (self.state.running is None and self._next_work()):
            return None
        return lambda: self._log(e)

    async def _log(self, e: Experiment) -> None:
        """Make the verdict true outside; if that fails, wait until a human has mended it and resumes."""
        try:
            self._ledger.write(e)
        except BranchMoved as error:
            self._pause(str(error))
            await self._until_resumed()
        else:
            self.record(ev.Logged(e.n))

    # --- pausing ---

    def _pause(self, reason: str) -> None:
        if self.state.paused is None:
            self.record(ev.Paused(reason, "engine"))
        self.show(ev.Notice("warning", reason))

    async def _until_resumed(self) -> None:
        """Wait for a human in the middle of a step."""
        with self._waiting():
            await self._until(lambda: None if self.state.paused else True)

    def _pause_at_limit(self) -> None:
        """Stop or pause when a limit is reached, or when there is nothing to improve on."""
        reason = limits.reached(self.state, time.time())
        if reason and self._stop_at_limit:
            self.stop(reason, now=False)
        elif reason:
            self._pause(reason)

    async def _patiently(self, step: Step) -> None:
        """Do a step; when the disk is full or refuses, say so and wait: the step is the same afterwards."""
        try:
            await step()
        except OSError as error:
            self.show(ev.Notice("error", f"{describe(error)}; trying again every {RETRY_S:g} s"))
            with self._waiting():
                await asyncio.sleep(RETRY_S)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """In the middle of a step; stopping does not wait for it."""
        self._blocked += 1
        self._end_if_idle()
        try:
            yield
        finally:
            self._blocked -= 1

    async def _until(self, ready: Callable[[], T | None]) -> T:
        """Wait until the state makes `ready` return something."""
        while (value := ready()) is None:
            self._changed.clear()
            await self._changed.wait()
        return value

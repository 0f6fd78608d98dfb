"""The steps of the agenda that end in a candidate: a proposal, a repair, a human's own version."""

from __future__ import annotations

import asyncio
from typing import Protocol

from loop import events as ev
from loop.agents.base import AgentFailed, AgentStopped, Failure, NoProposal, OutOfMoney, Proposal
from loop.agents.program import fingerprint
from loop.judging import verdict
from loop.proposing import shares
from loop.proposing.candidates import Candidate, Candidates
from loop.proposing.conversation import Conversations
from loop.state import Experiment
from loop.store import Store
from loop.text import tail

AGENT_PATIENCE = 3
"""So many proposals in a row may lead nowhere, for each conversation that may go on at once, before the run
pauses and a human has to look."""


class Halt(Protocol):
    """Keeps the engine from starting anything new: the run pauses, or ends where nobody looks at it. `failed`
    says whether a human has to mend something."""

    def __call__(self, reason: str, *, failed: bool = True) -> None: ...


class Proposer:
    """Turns ideas into candidates."""

    def __init__(
        self,
        conversations: Conversations,
        candidates: Candidates,
        store: Store,
        halt: Halt,
    ) -> None:
        """`halt` is called with the reason when agents cannot go on."""
        self._halt = halt
        self._conversations, self._candidates = conversations, candidates
        self._store, self._state = store, store.state
        self._failed_in_a_row = 0
        self._made: dict[int, Candidate] = {}
        """Candidates that the disk refused to record: they are not proposed, and paid for, again."""
        self._making = asyncio.Lock()
        """Held while a candidate is made: two conversations must not make the same one."""
        self._due: list[ev.Spent] = []
        """What was spent on attempts that led nowhere, as long as the disk refuses to record it."""

    async def propose(self, n: int, agent: str = "") -> None:
        """Experiment `n` against the incumbent of now: near misses put together, or an agent's idea: that of
        `agent`, if one is named."""
        self._settle()
        parent = self._state.incumbent_commit
        if n > len(self._state.experiments) or self._state.experiment(n).parent != parent:
            self._start(n, parent, agent)
        if made := self._made.get(n):
            await self._announce(made)
            return
        async with self._making:
            if combined := await self._candidates.combination(n, parent):
                await self._candidates.commit(combined)
                return
        began = self._state.seq
        context = self._conversations.context(n, parent)
        try:
            proposal, heard = await self._conversations.ask(context)
        except AgentStopped as error:
            self._spent(n, error)
            self._stopped(error)
            return
        except AgentFailed as error:
            self._spent(n, error)
            self._failed(str(error))
            return
        try:
            self._conversations.keep_notes(proposal, context.notes)
            async with self._making:
                if twin := await self._twin(n, proposal.source, began):
                    why = f"experiment {twin} is the same program, proposed meanwhile"
                    self._spent(n, NoProposal(why, proposal.usage))
                    return
                candidate = await self._candidates.make(n, parent, proposal, heard=heard)
        except OSError:
            self._due.append(ev.Spent(n, proposal.usage))
            raise
        await self._announce(candidate)

    def _start(self, n: int, parent: str, agent: str) -> None:
        """Record that work on experiment `n` begins; where there are several agents, whose it is, and why."""
        names, known = self._conversations.names, self._state.experiments[n - 1 : n]
        had = known[0].agent if known else ""
        chosen = had or agent or (shares.next_agent(self._state, names) if names else "")
        self._store.record(ev.ExperimentStarted(n, parent, agent=chosen))
        if names:
            told = shares.words(shares.shares(self._state, names))
            self._conversations.say(
                n, "note", f"{chosen} works this out; shares by gain per GPU hour: {told}"
            )

    async def _twin(self, n: int, source: str, began: int) -> int | None:
        """Number of a candidate with the same program that another conversation has made since record
        `began`; None when there is none."""
        rivals = [e for e in map(self._state.experiment, self._state.open) if e.n != n and e.commit]
        for rival in rivals:
            if rival.queued_seq > began:
                other = self._conversations.archive.source(rival.n)
                prints = await asyncio.to_thread(lambda *sources: {*map(fingerprint, sources)}, source, other)
                if len(prints) == 1:
                    return rival.n
        return None

    async def _announce(self, candidate: Candidate) -> None:
        n = candidate.event.n
        self._made[n], seq = candidate, self._state.seq
        try:
            await self._candidates.commit(candidate)
        finally:
            # Recording comes first, before anything else can happen. Whatever came after it, even that the
            # candidate is to be proposed again, it is recorded.
            if self._state.seq > seq:
                del self._made[n]
        if refused := candidate.event.refused:
            self._conversations.say(n, "error", refused)
            self._failed(refused)
        else:
            self._failed_in_a_row = 0

    async def repair(self, n: int, reason: str) -> None:
        """Give crashed experiment `n` back to the agent: a new candidate, or the crash is final."""
        self._settle()
        e, archive = self._state.experiment(n), self._conversations.archive
        attempt = verdict.attempts(e)
        failure = Failure(attempt, reason, tail(archive.log(n)), archive.source(n))
        context = self._conversations.context(n, e.parent, failure)
        try:
            proposal, _ = await self._conversations.ask(context)
        except AgentStopped as error:
            self._spent(n, error)
            self._stopped(error)  # the crash is still there: the agent is asked again after the pause
            return
        except AgentFailed as error:
            self._spent(n, error)
            self._give_up(e, str(error))
            return
        candidate = await self._candidates.make(n, e.parent, proposal, combines=e.combines)
        if refused := candidate.event.refused:
            self._spent(n, NoProposal(f"no repair: {refused}", proposal.usage))
            self._give_up(e, refused)
        elif e.phase == "judging":  # it may have been judged meanwhile, because the engine is to stop
            self._conversations.keep_notes(proposal, context.notes)
            await self._candidates.commit(candidate)
        else:
            self._spent(n, NoProposal("the repair came too late", proposal.usage))

    async def answer(self, id: int) -> None:
        """Let an agent answer the question that came with record number `id`. A question that leads to no
        answer is asked no more: the transcript says why."""
        question = next(q.text for q in self._state.questions if q.id == id)
        n = self._state.experiments[-1].n
        self._conversations.say(n, "human", question)
        try:
            self._count(n, await self._conversations.answer(n, self._state.incumbent_commit, question))
        except NoProposal as error:
            self._spent(n, error)
        self._store.record(ev.Answered(id))

    async def replace(self, e: Experiment, source: str) -> bool:
        """Put a human's version in place of a waiting candidate; False when it does not wait any more."""
        proposal = Proposal(e.description, source, e.hypothesis)
        candidate = await self._candidates.make(e.n, e.parent, proposal, author="human", combines=e.combines)
        if e.phase != "waiting":
            return False
        await self._candidates.commit(candidate)
        return True

    def _stopped(self, error: AgentStopped) -> None:
        self._halt(str(error), failed=not isinstance(error, OutOfMoney))

    def _give_up(self, e: Experiment, reason: str) -> None:
        if e.phase == "judging":
            self._store.record(ev.RepairGivenUp(e.n, reason))

    def _failed(self, reason: str) -> None:
        """A proposal led nowhere; after a few in a row a human has to look."""
        self._failed_in_a_row += 1
        patience = AGENT_PATIENCE * self._conversations.at_once()
        if self._failed_in_a_row >= patience:
            self._failed_in_a_row = 0
            self._halt(f"the agent gave no proposal {patience} times in a row: {reason}")

    def _spent(self, n: int, error: NoProposal) -> None:
        """Count what an attempt cost that led nowhere, and say why it did."""
        self._count(n, error.usage)
        self._conversations.say(n, "error", str(error))

    def _count(self, n: int, usage: ev.Usage) -> None:
        """Count what something cost that led to no candidate."""
        if usage != ev.Usage():
            self._due.append(ev.Spent(n, usage))
        self._settle()

    def _settle(self) -> None:
        """Record what was spent. Raises OSError while the disk refuses; then nothing more may be spent."""
        while self._due:
            self._store.record(self._due[0])
            del self._due[0]

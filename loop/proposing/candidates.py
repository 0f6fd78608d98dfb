"""Candidates: proposals as git commits. They are audited, carried over to a newer incumbent, or put together.

The order is always the same: git objects first, then the journal, then the ref. Each of the three can be
repeated after a kill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from loop import events as ev
from loop import merge
from loop.agents.base import Proposal
from loop.config import Settings
from loop.judging import audit, verdict
from loop.proposing import auditing, combination
from loop.records.repository import Repository
from loop.records.writer import Writer
from loop.state import Experiment
from loop.store import Store

Author = Literal["agent", "human", "engine"]
NEWEST = 10
"""After a restart the refs of so many of the newest experiments are looked at, besides all open ones."""


class Candidate(Struct, frozen=True):
    """A commit that no ref names yet, and the event that announces it."""

    event: ev.CandidateCommitted
    edited: ev.CandidateEdited


class Candidates:
    """Makes candidates of one run."""

    def __init__(self, settings: Settings, repository: Repository, writer: Writer, store: Store) -> None:
        self._settings, self._repository, self._writer = settings, repository, writer
        self._store, self._state = store, store.state

    def read(self, commit: str) -> str:
        """The editable file of a commit."""
        return self._repository.read(commit, self._state.editable) or ""

    async def put_right(self) -> None:
        """After a restart: a kill may have come between the journal and a ref."""
        newest = self._state.experiments[-NEWEST:]
        for e in {e.n: e for e in [*map(self._state.experiment, self._state.open), *newest]}.values():
            if e.commit:
                await self._keep(e.n, e.commit)

    async def start_baseline(self, n: int) -> None:
        """Make the unchanged code experiment `n`."""
        base = self._state.base
        self._store.record(ev.ExperimentStarted(n, base))
        self._store.record(ev.CandidateCommitted(n, base, base, "baseline", author="engine"))
        await self._keep(n, base)

    async def make(
        self,
        n: int,
        parent: str,
        proposal: Proposal,
        *,
        heard: Iterable[int] = (),
        author: Author = "agent",
        combines: list[int] | None = None,
    ) -> Candidate:
        """A commit of a proposal on top of `parent`, audited. Nothing is journaled yet.

        `heard` are the ids of the messages that the agent has heard.

        An agent's change that the audit refuses becomes a candidate too: one that is rejected at once.
        """
        path, before = self._state.editable, self.read(parent)
        message = f"{proposal.description}\n\n{proposal.hypothesis}\n\nautoresearch {self._state.tag} #{n}\n"
        found = await auditing.findings(path, before, proposal.source)
        added, removed = await asyncio.to_thread(merge.count, before, proposal.source)
        commit = await self._writer.do(lambda git: git.commit(parent, path, proposal.source, message))
        words = [str(finding) for finding in found]
        refused = self._refusal(found) if author == "agent" else None
        event = ev.CandidateCommitted(
            n, commit, parent,
            description=proposal.description, hypothesis=proposal.hypothesis, added=added, removed=removed,
            usage=proposal.usage, author=author, heard=list(heard), agent=proposal.agent,
            findings=words, refused=refused or "", combines=combines or [],
        )  # fmt: skip
        return Candidate(event, ev.CandidateEdited(n, path, before, proposal.source, words))

    async def commit(self, candidate: Candidate) -> None:
        """Announce a candidate, and keep its commit reachable."""
        self._store.record(candidate.event)
        self._store.show(candidate.edited)
        await self._keep(candidate.event.n, candidate.event.commit)

    async def refusal(self, parent: str, source: str) -> str | None:
        """Why an agent's change would not be trained; a human may do what an agent may not."""
        return self._refusal(await auditing.findings(self._state.editable, self.read(parent), source))

    def _refusal(self, found: list[audit.Finding]) -> str | None:
        """What the audit has against a change, where the settings let it refuse one."""
        return None if self._settings.audit == "report" else audit.refusal(found)

    async def combination(self, n: int, parent: str) -> Candidate | None:
        """Near misses put together as experiment `n`; None when there are too few or they do not fit."""
        misses = verdict.near_misses(self._state, self._settings.rules)
        if not misses:
            return None
        path = self._state.editable
        found = await self._writer.do(
            lambda git: combination.combine(lambda c: git.read(c, path) or "", path, parent, misses)
        )
        if found is None:
            return None
        proposal, numbers = found
        return await self.make(n, parent, proposal, author="engine", combines=numbers)

    async def carry_over(self, e: Experiment) -> None:
        """Merge a candidate onto an incumbent that is newer than its parent, or have it proposed again where
        that is not possible or leaves nothing. It may have trained on its parent."""
        path, incumbent, was = self._state.editable, self._state.incumbent_commit, e.commit
        base, ours, theirs = (self.read(c) for c in (e.parent, incumbent, e.commit))
        merged = await asyncio.to_thread(merge.merge, base, ours, theirs)
        if merged is None or merged == ours:
            why = "it changes the same lines as" if merged is None else "it is contained in"
            if self._waits(e.n, was):
                self._store.record(
                    ev.ExperimentStarted(e.n, incumbent, f"{why} the new incumbent", agent=e.agent)
                )
            return
        message = f"{e.description}\n\nmerged onto {incumbent[:7]}\n"
        added, removed = await asyncio.to_thread(merge.count, ours, merged)
        commit = await self._writer.do(lambda git: git.commit(incumbent, path, merged, message))
        if not self._waits(e.n, was):
            return
        self._store.record(
            ev.CandidateCommitted(
                e.n, commit, incumbent,
                description=e.description, hypothesis=e.hypothesis, added=added, removed=removed,
                author="engine", findings=e.findings, combines=e.combines,
            )
        )  # fmt: skip
        await self._keep(e.n, commit)

    def _waits(self, n: int, commit: str) -> bool:
        """Nobody has rejected, changed or judged the candidate meanwhile."""
        e = self._state.experiment(n)
        return e.phase in ("queued", "judging") and e.commit == commit

    async def _keep(self, n: int, commit: str) -> None:
        tag = self._state.tag
        await self._writer.do(lambda git: git.keep_candidate(tag, n, commit))

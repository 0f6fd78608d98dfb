"""Candidates: proposals as git commits, audited, carried over to a newer incumbent, or put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from loop import events as ev
from loop import merge
from loop.agents.base import Proposal
from loop.config import Settings
from loop.judging import audit, verdict
from loop.proposing import combination
from loop.records.repository import Repository
from loop.state import Experiment, RunState


class Candidates:
    """Objects first, then the journal, then the ref: every step can be repeated after a kill."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        state: RunState,
        record: Callable[[ev.DurableEvent], None],
        show: Callable[[ev.LiveEvent], None],
    ) -> None:
        self._settings, self._repository, self._state = settings, repository, state
        self._record, self._show = record, show

    def read(self, commit: str) -> str:
        """The editable file of a commit."""
        return self._repository.read(commit, self._state.editable) or ""

    def commit(
        self,
        n: int,
        parent: str,
        proposal: Proposal,
        steered: int = 0,
        author: Literal["agent", "human", "engine"] = "agent",
        combines: list[int] | None = None,
    ) -> str | None:
        """Make a candidate of a proposal; returns why the audit refuses it, None when it may be trained."""
        path, before = self._state.editable, self.read(parent)
        message = f"{proposal.description}\n\n{proposal.hypothesis}\n\nautoresearch {self._state.tag} #{n}\n"
        commit = self._repository.commit(parent, path, proposal.source, message)
        added, removed = merge.count(before, proposal.source)
        found = findings(path, before, proposal.source)
        words = [str(finding) for finding in found]
        refused = refusal(self._settings, found) if author == "agent" else None
        self._record(
            ev.CandidateCommitted(
                n, commit, parent, proposal.description, proposal.hypothesis, added, removed,
                proposal.usage, author, steered, words, refused or "", combines or [],
            )
        )  # fmt: skip
        self._repository.keep_candidate(self._state.tag, n, commit)
        self._show(ev.CandidateEdited(n, path, before, proposal.source, words))
        return refused

    def refusal(self, parent: str, source: str) -> str | None:
        """Why an agent's change is not trained; a human may do what an agent may not."""
        return refusal(self._settings, findings(self._state.editable, self.read(parent), source))

    def combine(self, n: int, parent: str) -> bool:
        """Put near misses together as experiment `n`; False when there are too few, or they do not fit."""
        misses = verdict.near_misses(self._state, self._settings.rules)
        found = combination.combine(self.read, self._state.editable, parent, misses) if misses else None
        if found is None:
            return False
        proposal, numbers = found
        self.commit(n, parent, proposal, author="engine", combines=numbers)
        return True

    def carry_over(self, e: Experiment) -> bool:
        """Merge a candidate onto an incumbent that is newer than its parent; False when it has no use."""
        path, incumbent = self._state.editable, self._state.incumbent_commit
        base, ours, theirs = (self.read(c) for c in (e.parent, incumbent, e.commit))
        merged = merge.merge(base, ours, theirs)
        if merged is None or merged == ours:
            why = "it changes the same lines as" if merged is None else "it is contained in"
            self._record(ev.ExperimentStarted(e.n, incumbent, f"{why} the new incumbent"))
            return False
        commit = self._repository.commit(
            incumbent, path, merged, f"{e.description}\n\nmerged onto {incumbent[:7]}\n"
        )
        added, removed = merge.count(ours, merged)
        self._record(
            ev.CandidateCommitted(
                e.n, commit, incumbent, e.description, e.hypothesis, added, removed, author="engine",
                findings=e.findings, combines=e.combines,
            )
        )  # fmt: skip
        self._repository.keep_candidate(self._state.tag, e.n, commit)
        return True


def findings(path: str, before: str, after: str) -> list[audit.Finding]:
    """What the audit says of a change; of other languages than Python it knows nothing."""
    return audit.audit(before, after) if path.endswith(".py") else []


def refusal(settings: Settings, found: list[audit.Finding]) -> str | None:
    """What the audit has against a change, where the settings let it refuse one."""
    return None if settings.audit == "report" else audit.refusal(found)

"""Crashed candidates go back to the agent, a few times, while others train."""

from __future__ import annotations

from loop.agents.base import AgentFailed, Failure
from loop.config import Settings
from loop.judging.verdict import Verdict
from loop.proposing.candidates import Candidates
from loop.proposing.proposer import Proposer
from loop.state import Experiment, RunState
from loop.text import tail


class Repairs:
    """Which crashes may be mended, and asking the agent to do it."""

    def __init__(
        self, settings: Settings, state: RunState, proposer: Proposer, candidates: Candidates
    ) -> None:
        self._settings, self._state = settings, state
        self._proposer, self._candidates = proposer, candidates
        self._given_up: set[int] = set()

    def possible(self, e: Experiment, judged: Verdict) -> bool:
        """It crashed, and the agent may try to mend it."""
        left = _attempts(e) <= self._settings.fix_attempts and e.n not in self._given_up
        return judged.status == "crash" and e.commit != self._state.base and left

    async def repair(self, e: Experiment, reason: str) -> None:
        """A new candidate, or `possible` is False from now on. Raises `AgentFailed` and `AgentStopped`."""
        archive = self._proposer.archive
        failure = Failure(_attempts(e), reason, tail(archive.log(e.n)), archive.source(e.n))
        context = self._proposer.context(e.n, e.parent, failure)
        try:
            proposal, _ = await self._proposer.ask(context)
        except AgentFailed:
            self._given_up.add(e.n)
            raise
        if refused := self._candidates.refusal(e.parent, proposal.source):
            self._proposer.say(e.n, "error", f"no repair: {refused}")
            self._given_up.add(e.n)
        elif e.phase == "judging":  # not judged meanwhile, because the engine is to stop
            self._proposer.keep_notes(proposal, context.notes)
            self._candidates.commit(e.n, e.parent, proposal)


def _attempts(e: Experiment) -> int:
    """Each repair is a commit of its own."""
    return len({run.commit for run in e.trainings})

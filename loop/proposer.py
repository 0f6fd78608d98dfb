"""Asks the agent for one proposal: what it may know goes in, its transcript and a clean proposal come out."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from loop import events as ev
from loop.agents.base import Agent, AgentFailed, AgentStopped, Failure, Proposal, ResearchContext
from loop.archive import KeptArchive
from loop.config import Settings
from loop.paths import RunPaths
from loop.progress import clean
from loop.repository import Repository
from loop.state import RunState


class Proposer:
    """The engine's side of the conversation with its agent."""

    def __init__(
        self,
        agent: Agent,
        settings: Settings,
        paths: RunPaths,
        repository: Repository,
        state: RunState,
        show: Callable[[ev.LiveEvent], None],
    ) -> None:
        self.archive = KeptArchive(repository, paths, state)
        self._agent, self._settings, self._paths = agent, settings, paths
        self._repository, self._state, self._show = repository, state, show

    def context(self, n: int, parent: str, failure: Failure | None = None) -> ResearchContext:
        """Everything the agent may know when it proposes experiment `n` on top of `parent`."""
        s, read = self._state, self._repository.read
        return ResearchContext(
            n=n,
            tag=s.tag,
            program=_read(self._paths.root / self._settings.program),
            path=s.editable,
            source=read(parent, s.editable) or "",
            readonly={path: read(parent, path) or "" for path in self._settings.readonly},
            experiments=list(s.experiments),
            incumbent=s.incumbent or 0,
            archive=self.archive,
            metric=s.metric,
            direction=s.direction,
            budget_s=self._settings.budget_s,
            notes=_read(self._paths.notes),
            steering=list(s.steering),
            failure=failure,
        )

    async def ask(self, context: ResearchContext) -> Proposal:
        """One proposal; its transcript goes to the experiment's own file as it comes.

        Raises `AgentFailed` or `AgentStopped`; whatever else goes wrong inside an agent is a failed attempt
        too, with its traceback in the engine's log: one odd answer must not end a week of research.
        """
        path = self._paths.transcript(context.n)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as transcript:

            def emit(event: ev.AgentDelta | ev.CandidateEdited) -> None:
                if isinstance(event, ev.AgentDelta):
                    transcript.write(ev.encode(event) + b"\n")
                    transcript.flush()
                self._show(event)

            for message in context.steering:
                emit(ev.AgentDelta(context.n, "human", message, t=time.time()))
            try:
                return _cleaned(await self._agent.propose(context, emit))
            except (AgentFailed, AgentStopped, OSError):
                raise
            except Exception as error:
                traceback.print_exc()
                raise AgentFailed(f"agent {self._agent.name} failed: {error!r}") from error


def _cleaned(proposal: Proposal) -> Proposal:
    """What a model wrote, fit for a commit, a terminal and JSON."""
    return msgspec.structs.replace(
        proposal,
        description=" ".join(clean(proposal.description).split())[:500] or "no description",
        hypothesis=clean(proposal.hypothesis),
        source=proposal.source.encode("utf-8", "replace").decode(),
    )


def _read(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""

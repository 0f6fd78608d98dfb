"""Asks the agent for one proposal: what it may know goes in, its transcript and a clean proposal come out."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from loop import events as ev
from loop.agents.base import (
    NOTES_MOST,
    Agent,
    AgentFailed,
    AgentStopped,
    Failure,
    Proposal,
    ResearchContext,
    Wish,
)
from loop.config import Settings
from loop.paths import RunPaths
from loop.proposing.candidates import findings, refusal
from loop.proposing.permissions import Questions
from loop.records.archive import KeptArchive
from loop.records.repository import Repository
from loop.state import RunState
from loop.text import clean, without


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
        self.questions = Questions(state, show)
        self._told: dict[int, int] = {}
        """How many human messages the transcript of an experiment has: a second attempt repeats none."""

    def context(self, n: int, parent: str, failure: Failure | None = None) -> ResearchContext:
        """Everything the agent may know when it proposes experiment `n` on top of `parent`."""
        s, read = self._state, self._repository.read
        source = read(parent, s.editable) or ""
        return ResearchContext(
            n=n,
            tag=s.tag,
            program=_read(self._paths.root / self._settings.program),
            path=s.editable,
            source=source,
            readonly={path: read(parent, path) or "" for path in self._settings.readonly},
            experiments=list(s.experiments),
            incumbent=s.incumbent or 0,
            archive=self.archive,
            metric=s.metric,
            direction=s.direction,
            budget_s=self._settings.budget_s,
            notes=_read(self._paths.notes),
            failure=failure,
            permit=partial(self._permit, n),
            refuse=partial(self._refuse, source),
            dollars_left=self._dollars_left(),
        )

    async def _refuse(self, before: str, after: str) -> str | None:
        """What the audit has against a change. It runs in a thread, as a large source takes it long."""
        found = await asyncio.to_thread(findings, self._state.editable, before, after)
        return refusal(self._settings, found)

    def _dollars_left(self) -> float | None:
        most, spent = self._state.limits.max_cost, self._state.usage.dollars
        return None if most is None else most - (spent or 0.0)

    async def ask(self, context: ResearchContext) -> tuple[Proposal, int]:
        """One proposal, and how many of the human's waiting messages it has heard. The transcript goes to the
        experiment's own file as it comes. A repair hears them too, but they are the next idea's all the same.

        Raises `AgentFailed` or `AgentStopped`; whatever else goes wrong inside an agent is a failed attempt
        too, with its traceback in the engine's log: one odd answer must not end a week of research.
        """
        path = self._paths.transcript(context.n)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as transcript:

            def emit(event: ev.AgentDelta | ev.CandidateEdited) -> None:
                event = self._plain(event)
                if isinstance(event, ev.AgentDelta):
                    transcript.write(ev.encode(event) + b"\n")
                    transcript.flush()
                self._show(event)

            heard = 0

            def hear() -> list[str]:
                nonlocal heard
                heard = min(heard, len(self._state.steering))  # another conversation may have settled some
                news, told = self._state.steering[heard:], self._told.get(context.n, 0)
                for message in news[max(0, told - heard) :]:
                    emit(ev.AgentDelta(context.n, "human", message, t=time.time()))
                heard += len(news)
                self._told[context.n] = max(heard, told)
                return news

            context = msgspec.structs.replace(context, steering=hear(), hear=hear)
            try:
                proposal = self._cleaned(await self._agent.propose(context, emit))
                del self._told[context.n]
                return proposal, heard
            except (AgentFailed, AgentStopped, OSError):
                raise
            except Exception as error:
                traceback.print_exc()
                raise AgentFailed(f"agent {self._agent.name} failed: {error!r}") from error

    def say(self, n: int, kind: ev.DeltaKind, text: str) -> None:
        """A line of the engine's own in an experiment's transcript."""
        delta = ev.AgentDelta(n, kind, without(text, self._agent.secrets), t=time.time())
        with self._paths.transcript(n).open("ab") as transcript:
            transcript.write(ev.encode(delta) + b"\n")
        self._show(delta)

    def _plain(self, event: ev.AgentDelta | ev.CandidateEdited) -> ev.AgentDelta | ev.CandidateEdited:
        """What an agent shows, without its keys; an edit with what the audit says of it."""
        secrets = self._agent.secrets
        if isinstance(event, ev.AgentDelta):
            return msgspec.structs.replace(event, text=without(event.text, secrets))
        after = without(event.after, secrets)
        found = [str(finding) for finding in findings(event.path, event.before, after)]
        return msgspec.structs.replace(event, after=after, findings=found)

    async def _permit(self, n: int, wish: Wish) -> bool:
        secrets = self._agent.secrets
        paths = [without(path, secrets) for path in wish.paths]
        return await self.questions.ask(
            n, msgspec.structs.replace(wish, title=without(wish.title, secrets), paths=paths)
        )

    def _cleaned(self, proposal: Proposal) -> Proposal:
        """What a model wrote, fit for a commit, a terminal and JSON, and without keys."""
        secrets = self._agent.secrets
        return msgspec.structs.replace(
            proposal,
            description=" ".join(clean(without(proposal.description, secrets)).split())[:500]
            or "no description",
            hypothesis=clean(without(proposal.hypothesis, secrets)),
            source=without(proposal.source, secrets).encode("utf-8", "replace").decode(),
            notes=None if proposal.notes is None else without(proposal.notes, secrets),
        )

    def keep_notes(self, proposal: Proposal, before: str) -> None:
        """The agent's notes.md, if it changed them: whole or not at all. `before`: what it had been given."""
        if proposal.notes is not None:
            draft = self._paths.notes.with_suffix(".draft")
            draft.write_text(joined(before, _read(self._paths.notes), proposal.notes), "utf-8")
            draft.replace(self._paths.notes)


def joined(before: str, now: str, after: str) -> str:
    """Notes that went from `before` to `after`, where another conversation has made them `now` meanwhile: the
    new lines of both; where that is too much, ours stay."""
    if now == before:
        return after
    added = [line for line in now.splitlines() if line not in before.splitlines()]
    lines = [*(line for line in added if line not in after.splitlines()), *after.splitlines()]
    while len("\n".join(lines)) >= NOTES_MOST:
        lines.pop(0)
    return "\n".join(lines) + "\n"


def _read(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""

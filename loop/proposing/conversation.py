"""One conversation with an agent: what it may know goes in, its transcript and a clean proposal come out."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from loop import events as ev
from loop.agents import hyperparameters
from loop.agents.base import (
    NOTES_MOST,
    Agent,
    AgentFailed,
    AgentStopped,
    Emit,
    Failure,
    NoProposal,
    Proposal,
    ResearchContext,
    Wish,
)
from loop.agents.team import Team, can_answer
from loop.config import Settings
from loop.paths import RunPaths, owner_only
from loop.proposing import auditing
from loop.proposing.candidates import Candidates
from loop.proposing.permissions import Permissions
from loop.records import foreign_files
from loop.records.archive import KeptArchive
from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped
from loop.state import ENGINE_SAYS, RunState
from loop.store import Store
from loop.text import clean, without


class Conversations:
    """The engine's side of all conversations with one agent."""

    def __init__(
        self,
        agent: Agent,
        settings: Settings,
        paths: RunPaths,
        repository: Repository,
        candidates: Candidates,
        store: Store,
        at_once: Callable[[], int],
    ) -> None:
        """`at_once` says how many conversations may go on at once now."""
        self.at_once = at_once
        self._agent, self._settings, self._paths = agent, settings, paths
        self.names = agent.names if isinstance(agent, Team) else ()
        """Names of the agents, where there are several."""
        self._repository, self._candidates, self._store = repository, candidates, store
        self._state = store.state
        self.archive = KeptArchive(repository, paths, store.state)
        self.permissions = Permissions(store)
        self._told: dict[int, set[int]] = {}
        """Ids of the messages that are in the transcript of an experiment whose proposal goes on: a second
        attempt does not repeat them."""
        self._granted: dict[int, float] = {}
        """Dollars that conversations may spend, by their experiments, until what they cost is recorded."""

    def context(self, n: int, parent: str, failure: Failure | None = None) -> ResearchContext:
        """Everything the agent may know when it proposes experiment `n` on top of `parent`."""
        s, read = self._state, self._repository.read
        return ResearchContext(
            n=n,
            tag=s.tag,
            program=foreign_files.program(self._paths.root, self._settings.program),
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
            failure=failure,
            agent=s.experiment(n).agent,
            permit=partial(self._permit, n),
            refuse=partial(self._candidates.refusal, parent),
            dollars_left=self._grant(n),
            device=hyperparameters.device(),
            proposers=self.at_once(),
        )

    def _grant(self, n: int) -> float | None:
        """What the conversation about experiment `n` may cost: its share of what is left and not granted.

        None without a limit. All conversations together never get more than what is left.
        """
        s = self._state
        if s.limits.max_cost is None:
            return None
        going_on = {e.n for e in s.in_phase("proposing", "judging")} - {n}
        self._granted = {m: dollars for m, dollars in self._granted.items() if m in going_on}
        left = s.limits.max_cost - (s.usage.dollars or 0.0) - sum(self._granted.values())
        self._granted[n] = left / max(1, self.at_once() - len(self._granted))
        return self._granted[n]

    async def ask(self, context: ResearchContext) -> tuple[Proposal, set[int]]:
        """One proposal, and the ids of the waiting messages that the agent has heard.

        The transcript goes to the experiment's own file as it comes. A repair hears the messages too, but
        they are the next idea's all the same. Raises `AgentFailed` or `AgentStopped`. Whatever else goes
        wrong inside an agent is a failed attempt, with its traceback in the engine's log: one odd answer must
        not end a week of research.
        """
        with self._transcript(context.n) as (emit, edits):
            hearing = _Hearing(self._state, self._told.setdefault(context.n, set()), context.n, emit)
            context = msgspec.structs.replace(context, steering=hearing.hear(), hear=hearing.hear)
            try:
                proposal = self._cleaned(await self._agent.propose(context, emit))
                await edits.shown()
                del self._told[context.n]
                return proposal, hearing.heard
            except (AgentFailed, AgentStopped, OSError):
                raise
            except Exception as error:
                traceback.print_exc()
                raise AgentFailed(f"agent {self._agent.name} failed: {error!r}") from error
            finally:
                edits.close()

    @contextlib.contextmanager
    def _transcript(self, n: int) -> Iterator[tuple[Emit, _Edits]]:
        """Takes what an agent emits about experiment `n`: words go to its transcript, edits to the screen."""
        path, edits = self._paths.transcript(n), _Edits(self._store, self._agent.secrets)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _appended(path) as transcript:

            def emit(event: ev.AgentDelta | ev.CandidateEdited) -> None:
                if isinstance(event, ev.CandidateEdited):
                    edits.show(event)
                    return
                delta = msgspec.structs.replace(event, text=without(event.text, self._agent.secrets))
                with contextlib.suppress(OSError):  # a full disk must not end what is paid for
                    transcript.write(ev.encode(delta) + b"\n")
                self._store.show(delta)

            yield emit, edits

    @property
    def answers(self) -> bool:
        """Whether the agent answers questions."""
        return can_answer(self._agent) is not None

    async def answer(self, n: int, parent: str, question: str) -> ev.Usage:
        """Let the agent answer in the transcript of experiment `n`; what that cost. Raises `NoProposal`."""
        agent, secrets = can_answer(self._agent), self._agent.secrets
        if agent is None:
            raise AgentFailed(f"agent {self._agent.name} answers no questions")
        with self._transcript(n) as (emit, _):
            try:
                return await agent.answer(self.context(n, parent), without(question, secrets), emit)
            except (NoProposal, OSError):
                raise
            except Exception as error:
                traceback.print_exc()
                raise AgentFailed(f"agent {self._agent.name} failed: {error!r}") from error

    def say(self, n: int, kind: ev.DeltaKind, text: str) -> None:
        """A line of the engine's own in an experiment's transcript. A full disk only loses the line."""
        delta = ev.AgentDelta(n, kind, without(text, self._agent.secrets), t=time.time())
        path = self._paths.transcript(n)
        with contextlib.suppress(OSError), open(path, "ab", opener=owner_only) as transcript:
            transcript.write(ev.encode(delta) + b"\n")
        self._store.show(delta)

    async def _permit(self, n: int, wish: Wish) -> bool:
        secrets = self._agent.secrets
        paths = [without(path, secrets) for path in wish.paths]
        title = without(wish.title, secrets)
        return await self.permissions.ask(n, msgspec.structs.replace(wish, title=title, paths=paths))

    def _cleaned(self, proposal: Proposal) -> Proposal:
        """What a model wrote, made fit for a commit, a terminal and JSON, and without keys."""
        secrets = self._agent.secrets
        description = " ".join(clean(without(proposal.description, secrets)).split())[:500]
        return msgspec.structs.replace(
            proposal,
            description=description or "no description",
            hypothesis=clean(without(proposal.hypothesis, secrets)),
            source=_as_utf8(without(proposal.source, secrets)),
            notes=None if proposal.notes is None else without(proposal.notes, secrets),
        )

    def keep_notes(self, proposal: Proposal, before: str) -> None:
        """Write notes.md, whole or not at all, if the agent changed it. `before` is what it was given."""
        if proposal.notes is not None:
            draft = self._paths.notes.with_suffix(".draft")
            with open(draft, "w", encoding="utf-8", opener=owner_only) as file:
                file.write(joined(before, _read(self._paths.notes), proposal.notes))
            draft.replace(self._paths.notes)


class _Hearing:
    """Which of the waiting messages one conversation has heard.

    Several conversations may hear a message. It waits until a candidate of one of them is committed.
    """

    def __init__(
        self, state: RunState, told: set[int], n: int, emit: Callable[[ev.AgentDelta], None]
    ) -> None:
        self._state, self._told, self._n, self._emit = state, told, n, emit
        self.heard = set[int]()

    def hear(self) -> list[str]:
        """The messages that have come since this was last asked. They go into the transcript once."""
        news = [message for message in self._state.steering if message.id not in self.heard]
        for message in news:
            if message.id not in self._told:
                kind: ev.DeltaKind = "note" if message.text.startswith(ENGINE_SAYS) else "human"
                self._emit(ev.AgentDelta(self._n, kind, message.text, t=time.time()))
        ids = {message.id for message in news}
        self.heard |= ids
        self._told |= ids
        return [message.text for message in news]


class _Edits:
    """Shows the file as the agent edits it, each version with what the audit says of it.

    The audit takes a moment and does not run on the event loop; of versions that come faster only the newest
    is shown.
    """

    def __init__(self, store: Store, secrets: tuple[str, ...]) -> None:
        self._store, self._secrets = store, secrets
        self._newest: ev.CandidateEdited | None = None
        self._showing: asyncio.Task[None] | None = None

    def show(self, event: ev.CandidateEdited) -> None:
        """Show this version as soon as it is audited."""
        self._newest = msgspec.structs.replace(event, after=_as_utf8(without(event.after, self._secrets)))
        if self._showing is None or self._showing.done():
            self._showing = asyncio.create_task(self._show())

    async def _show(self) -> None:
        while edited := self._newest:
            self._newest = None
            found = await auditing.findings(edited.path, edited.before, edited.after)
            self._store.show(msgspec.structs.replace(edited, findings=[str(finding) for finding in found]))

    async def shown(self) -> None:
        """Wait until the newest version is on screen."""
        if self._showing:
            await self._showing

    def close(self) -> None:
        """Show nothing more."""
        if self._showing:
            self._showing.cancel()


def _as_utf8(text: str) -> str:
    """A text that can be written: JSON can hold halves of characters, and a model can send them."""
    return text.encode("utf-8", "replace").decode()


def joined(before: str, now: str, after: str) -> str:
    """Notes that one conversation changed from `before` to `after`, while others made them `now`.

    The new lines of both are kept; where that is too much, the oldest go.
    """
    if now == before:
        return after
    added = [line for line in now.splitlines() if line not in before.splitlines()]
    lines = [*(line for line in added if line not in after.splitlines()), *after.splitlines()]
    while len("\n".join(lines)) >= NOTES_MOST:
        lines.pop(0)
    return "\n".join(lines) + "\n"


def _appended(path: Path) -> BinaryIO:
    """A transcript, opened without a buffer: its owner alone may read it."""
    return open(path, "ab", buffering=0, opener=owner_only)


def _read(path: Path) -> str:
    """The notes; empty where there are none, or something else stands in their place."""
    return (read_shaped(path, foreign_files.TEXT_MOST) or b"").decode("utf-8", "replace")

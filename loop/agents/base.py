"""What an agent is: something that turns a `ResearchContext` into a `Proposal`, talking while it works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct, field

from loop.events import AgentDelta, CandidateEdited, Usage
from loop.state import Experiment

Emit = Callable[[AgentDelta | CandidateEdited], None]
"""Where an agent's transcript and its live edits go."""
NOTES_MOST = 4_000
"""Characters of notes.md."""


class Archive(Protocol):
    """What is kept of past experiments; reading is cheap and never changes anything."""

    def source(self, n: int) -> str:
        """The editable file of experiment `n`'s candidate; empty when there is none."""
        ...

    def log(self, n: int) -> str:
        """What its trainer printed, control characters removed; empty when it never ran."""
        ...


class Wish(Struct, frozen=True):
    """Something a CLI agent asks leave for. `granted` is what the policy says."""

    title: str
    kind: str
    paths: list[str]
    granted: bool


Permit = Callable[[Wish], Awaitable[bool]]


async def by_policy(wish: Wish) -> bool:
    return wish.granted


class Failure(Struct, frozen=True):
    """A crashed candidate that the agent may repair."""

    attempt: int
    """1 for the first repair."""
    reason: str
    log_tail: str
    source: str


class ResearchContext(Struct, frozen=True):
    """Everything an agent may know when it proposes experiment `n`."""

    n: int
    tag: str
    program: str
    """program.md: the human's instructions."""
    path: str
    """The editable file's path."""
    source: str
    """The incumbent's editable file."""
    readonly: dict[str, str]
    """Other files the agent may read, path to text."""
    experiments: list[Experiment]
    incumbent: int
    """Number of the incumbent experiment."""
    archive: Archive
    metric: str = "val_bpb"
    direction: str = "min"
    budget_s: float = 300.0
    notes: str = ""
    """notes.md: the agent's own memory."""
    steering: list[str] = field(default_factory=list)
    """What the human said since the last proposal."""
    failure: Failure | None = None
    hear: Callable[[], list[str]] = list
    """What the human said since this was last asked: an agent calls it before each of its turns."""
    refuse: Callable[[str], str | None] = lambda source: None
    """Why the engine would not train this version of the editable file; None when it would."""
    permit: Permit = by_policy
    """Whether a wish is granted; in approval mode a human answers, whenever that is."""
    dollars_left: float | None = None
    """What this proposal may cost at most; None when there is no limit."""


class Proposal(Struct, frozen=True):
    """A finished idea: the whole new text of the editable file, and what it is for."""

    description: str
    source: str
    hypothesis: str = ""
    usage: Usage = Usage()
    notes: str | None = None
    """New text of notes.md, None when unchanged."""


class Agent(Protocol):
    """Who proposes. One instance lives as long as the engine; `propose` may be cancelled at any await."""

    name: str
    model: str
    secrets: tuple[str, ...]
    """Keys: whatever holds one is shown and written without it."""

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        """Work out the next experiment.

        Raises `AgentStopped` when a human has to act, `AgentFailed` when this attempt led nowhere.
        """
        ...

    async def close(self) -> None: ...


class NoProposal(Exception):
    """An attempt that led nowhere; the message is one sentence, `usage` what it cost all the same."""

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage or Usage()


class AgentFailed(NoProposal):
    """This attempt gave no proposal; the next one may."""


class AgentStopped(NoProposal):
    """No proposal can come until a human acts (no key, no credit, no such model): the engine pauses."""


class Bounds(Struct, frozen=True):
    """How long one proposal may take. Waiting for a provider that is down does not count as its time."""

    turns: int = 40
    seconds: float = 1200.0
    outage_s: float = 6 * 3600.0
    """How long a provider may be down before the proposal counts as failed."""
    first_tries: int = 5
    """Tries at a server that has never been reached before a human is asked."""
    wait_base_s: float = 1.0

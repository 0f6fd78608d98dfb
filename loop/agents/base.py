"""The contract of every agent: it turns a `ResearchContext` into a `Proposal`, and talks while it works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from msgspec import Struct, field

from loop.events import AgentDelta, CandidateEdited, Progress, Usage
from loop.state import Experiment

Emit = Callable[[AgentDelta | CandidateEdited], None]
"""Takes each piece of an agent's transcript and each edit when it happens. It is called on the event loop."""
NOTES_MOST = 4_000
"""Characters that notes.md may have."""


class Archive(Protocol):
    """Sources, logs and progress of past experiments. Threads may read it."""

    def source(self, n: int) -> str:
        """The editable file of experiment `n`'s candidate; empty when there is none."""
        ...

    def log(self, n: int) -> str:
        """What experiment `n` printed, without control characters; empty when it never trained."""
        ...

    def progress(self, n: int) -> list[Progress]:
        """The progress lines of experiment `n`'s last training, thinned; empty when it never trained."""
        ...


class Wish(Struct, frozen=True):
    """A permission that a CLI agent asks for, such as to run a command. `granted` is the policy's answer."""

    title: str
    kind: str
    paths: list[str]
    granted: bool


Permit = Callable[[Wish], Awaitable[bool]]
"""Decides whether a CLI agent may do what it asks for."""


async def by_policy(wish: Wish) -> bool:
    """Answers as the policy does, without asking a human."""
    return wish.granted


async def refuse_nothing(source: str) -> str | None:
    """Lets every source be trained."""
    return None


class Failure(Struct, frozen=True):
    """A candidate that crashed and that the agent may repair."""

    attempt: int
    """1 for the first repair."""
    reason: str
    log_tail: str
    source: str


class ResearchContext(Struct, frozen=True):
    """Everything an agent may know when it proposes experiment `n`."""

    n: int
    tag: str
    """Name of the run."""
    program: str
    """program.md: the human's instructions."""
    path: str
    """The editable file's path."""
    source: str
    """The incumbent's editable file."""
    readonly: dict[str, str]
    """Other files that the agent may read: path to text."""
    experiments: list[Experiment]
    incumbent: int
    """Number of the incumbent experiment."""
    archive: Archive
    metric: str = "val_bpb"
    direction: str = "min"
    budget_s: float = 300.0
    notes: str = ""
    """notes.md: what agents have noted for later experiments."""
    steering: list[str] = field(default_factory=list)
    """What the human said since the last proposal."""
    failure: Failure | None = None
    """What is to be repaired; None when a new idea is asked for."""
    agent: str = ""
    """Which of several agents is to work on it; empty where there is one."""
    hear: Callable[[], list[str]] = list
    """Returns what the human said since the last call. An agent calls it before each of its turns."""
    refuse: Callable[[str], Awaitable[str | None]] = refuse_nothing
    """Returns why the engine would not train this version of the editable file; None when it would."""
    permit: Permit = by_policy
    """Decides about each permission that is asked for. In approval mode it waits for a human's answer."""
    dollars_left: float | None = None
    """What this proposal may cost at most; None when there is no limit."""
    device: str = "cpu"
    """Which block of hyperparameters the editable file uses where it trains: `cuda` or `cpu`."""
    proposers: int = 1
    """How many conversations may go on at once. With several, each works on a kind of change of its own."""

    def parent(self, e: Experiment) -> Experiment | None:
        """The experiment whose code `e` changes: the incumbent of its time. None for the baseline."""
        found = (p for p in self.experiments if p.commit and p.commit == e.parent and p.n != e.n)
        return next(found, None)


class Proposal(Struct, frozen=True):
    """A candidate: the whole new text of the editable file, what was changed, and why it should help."""

    description: str
    source: str
    hypothesis: str = ""
    usage: Usage = Usage()
    notes: str | None = None
    """New text of notes.md; None when it is unchanged."""
    agent: str = ""
    """Name of the agent that made it, where several take turns."""


class Agent(Protocol):
    """Proposes experiments. One agent serves a whole run; `propose` may be cancelled at any await."""

    name: str
    model: str
    secrets: tuple[str, ...]
    """API keys and the like. The engine replaces them in everything it shows and writes."""

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        """Work out the next experiment.

        Raises `AgentStopped` when a human has to act, `AgentFailed` when this attempt led to no proposal.
        """
        ...

    async def close(self) -> None:
        """Close connections and end processes."""
        ...


@runtime_checkable
class Answering(Protocol):
    """What an agent has besides that can answer a human's question in words."""

    async def answer(self, context: ResearchContext, question: str, emit: Emit) -> Usage:
        """Answer in the transcript, without a proposal; returns what that cost. Raises like `propose`."""
        ...


class NoProposal(Exception):
    """An attempt that led to no proposal. The message is one sentence; `usage` is what the attempt cost."""

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage or Usage()


class AgentFailed(NoProposal):
    """This attempt gave no proposal; the next one may."""


class AgentStopped(NoProposal):
    """No proposal can come until a human acts (no key, no credit, no such model): the engine pauses."""


class OutOfMoney(AgentStopped):
    """What is left of the spending limit does not pay for another request: it is as good as reached."""


class Bounds(Struct, frozen=True):
    """Limits of one proposal. Waiting for a provider that is down does not count towards `seconds`."""

    turns: int = 40
    seconds: float = 1200.0
    outage_s: float = 6 * 3600.0
    """How long a provider may be down before the proposal counts as failed."""
    first_tries: int = 5
    """How often a server that has never answered is tried before the engine pauses and asks a human."""
    wait_base_s: float = 1.0
    """About how long to wait before the second try. The wait doubles with each further try."""

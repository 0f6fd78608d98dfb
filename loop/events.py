"""Every event and every command, as types: the journal format and the wire format are these classes as JSON.

Two kinds of events share one stream of `Record`s:

- *durable* events are decisions; they are numbered, written to the journal before the side effect they
  announce, and replay into the same state for ever;
- *live* events are streams (agent text, training progress, log lines); they have `seq` 0, are shown and
  dropped, and their full text is kept in the experiment's own files.

Times are seconds since the epoch, durations seconds, memory GB (2**30 bytes), `val_bpb` bits per byte.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

FORMAT = 2
"""Version of the journal and wire format; an engine refuses a journal with a newer one."""

Outcome = Literal["finished", "crashed", "timeout", "stopped", "doomed"]
"""How one training process ended."""

Status = Literal["keep", "discard", "crash"]
"""The verdict's word, as in results.tsv."""

DeltaKind = Literal["text", "thinking", "tool", "result", "retry", "human", "note", "error"]
"""What a piece of transcript is: agent's words, its thinking, a tool call, the tool's answer, a wait before
a retry, a human's message, something the engine remarks, a failure."""


class Usage(Struct, frozen=True):
    """What a proposal cost. Tokens are counts; `dollars` is None when the model's price is unknown."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    dollars: float | None = None
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        known = [d for d in (self.dollars, other.dollars) if d is not None]
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            sum(known) if known else None,
            self.seconds + other.seconds,
        )


class Limits(Struct, frozen=True):
    """When the engine ends or pauses by itself; None means no limit.

    `max_experiments` counts the run's rows, the baseline included.
    """

    max_experiments: int | None = None
    max_hours: float | None = None
    max_cost: float | None = None
    max_crashes: int | None = 10


# --- durable events -----------------------------------------------------------------------------------------


class Event(Struct, frozen=True, tag_field="type"):
    """Base of all events; the JSON field `type` is the class name."""


class RunCreated(Event, frozen=True):
    """First event of every journal: what is researched, and how."""

    tag: str
    repository: str
    base: str
    """Commit the run started from (40 hex digits)."""
    editable: str
    """Path of the one file agents edit, relative to the repository."""
    train_command: list[str]
    metric: str = "val_bpb"
    direction: Literal["min", "max"] = "min"
    format: int = FORMAT


class EngineStarted(Event, frozen=True):
    """An engine process took the run over."""

    pid: int
    version: str
    agent: str
    model: str = ""
    budget_s: float = 300.0
    timeout_s: float = 600.0
    sandbox: str = "off"
    approval: bool = False
    limits: Limits = Limits()


class EngineStopped(Event, frozen=True):
    """The engine left in order; after `kill -9` this is missing."""

    reason: str


class EngineStopping(Event, frozen=True):
    """The engine was asked to end: it finishes what is under way and starts nothing new."""

    reason: str


class ExperimentStarted(Event, frozen=True):
    """Number `n` is being proposed, against the incumbent commit `parent`.

    It may start again under the same number before it is trained: `why` says why.
    """

    n: int
    parent: str
    why: str = ""


class CandidateCommitted(Event, frozen=True):
    """The proposal is a git commit now. A repair or a merge commits again under the same `n`."""

    n: int
    commit: str
    parent: str
    description: str
    hypothesis: str = ""
    added: int = 0
    removed: int = 0
    usage: Usage = Usage()
    author: Literal["agent", "human", "engine"] = "agent"
    steered: int = 0
    """How many of the human's waiting messages this proposal has seen."""
    findings: list[str] = []
    """What the audit of the change found, a sentence each."""
    refused: str = ""
    """Why the audit does not let it be trained; then it is rejected at once."""
    combines: list[int] = []
    """Experiments whose changes this puts together."""


class Spent(Event, frozen=True):
    """What an attempt at proposal `n` cost that led nowhere."""

    n: int
    usage: Usage


class ApprovalRequested(Event, frozen=True):
    n: int


class Approved(Event, frozen=True):
    n: int
    first: bool = False
    """Ahead of everything else in the queue."""


class Rejected(Event, frozen=True):
    """A proposal the human refused: it is not trained and gets no row."""

    n: int
    reason: str


class RepairGivenUp(Event, frozen=True):
    """The agent has no repair for crashed experiment `n`, or none that may be trained: the crash is final."""

    n: int
    reason: str


class TrainingStarted(Event, frozen=True):
    """A training process is about to start. `seed` is what the trainer gets as AUTORESEARCH_SEED."""

    n: int
    training: int
    """Number of the training within its experiment, counted from 1."""
    commit: str
    seed: int
    budget_s: float
    seat: int = 0
    """Number of the place to train that it takes, counted from 0."""
    why: str = ""
    """Why the experiment trains again; empty for its first training."""


class TrainingLost(Event, frozen=True):
    """A training ended without a result, with its supervisor or its machine and not by its own doing.

    It starts again with the same seed, as the next attempt.
    """

    n: int
    training: int
    attempt: int
    """Number of the attempt that was lost, counted from 1."""
    reason: str


class TrainingFinished(Event, frozen=True):
    """A training process ended. `value` is the metric, None when there is none to believe."""

    n: int
    training: int
    outcome: Outcome
    reason: str = ""
    exit_code: int | None = None
    value: float | None = None
    memory_gb: float = 0.0
    training_seconds: float = 0.0
    total_seconds: float = 0.0
    summary: dict[str, float | str] = {}
    verified: bool = False
    """The number came through the sealed evaluator's own channel, not only as printed text."""
    hidden: float | None = None
    """The metric on the audit split, which no agent is told; None where the trainer has none."""
    flags: list[str] = []
    """Why this number cannot be kept: over budget, and the like."""
    data: str = ""
    """Name of the data that the sealed evaluation measured on."""
    excluded_seconds: float = 0.0
    """Start-up and warm-up that the budget clock left out."""


class Judged(Event, frozen=True):
    """The verdict on experiment `n`. Written before the branch moves and before the row is written."""

    n: int
    status: Status
    commit: str
    value: float | None
    memory_gb: float
    reason: str
    delta: float | None = None
    """value - incumbent's value of that moment; negative is better when direction is `min`."""
    evidence: str = ""
    """How much `delta` is against the noise, in words."""
    stderr: float | None = None
    """Standard error of `delta`; None when the noise is not known, or nil."""
    trainings: int = 1
    """How many trainings of the candidate `value` is the mean of."""
    incumbent: str = ""
    """The incumbent commit this was judged against; empty for the baseline."""
    copies: int = 0
    """Rows like this one that results.tsv held before: so that a restart knows whether it was written."""


class Logged(Event, frozen=True):
    """Branch, note and results.tsv row of experiment `n` are in place."""

    n: int


class RerunAsked(Event, frozen=True):
    """A human wants one more run of experiment `n`."""

    n: int


class Overridden(Event, frozen=True):
    """A human changed a verdict."""

    n: int
    status: Literal["keep", "discard"]
    reason: str = ""


class Paused(Event, frozen=True):
    reason: str
    by: Literal["human", "engine"] = "human"


class Resumed(Event, frozen=True):
    pass


class Steered(Event, frozen=True):
    """A human's message for the agent's next turn."""

    text: str


class ModeSet(Event, frozen=True):
    approval: bool


class LimitsSet(Event, frozen=True):
    limits: Limits


# --- live events --------------------------------------------------------------------------------------------


class Live(Event, frozen=True):
    """Base of the events that are shown but not journaled."""


class Preparing(Live, frozen=True):
    """One line of progress of the data preparation; empty when it is done."""

    text: str


class AgentDelta(Live, frozen=True):
    """A piece of the agent's transcript.

    Pieces of one streamed message share `id`; `tool` names the tool of a call or result.
    """

    n: int
    kind: DeltaKind
    text: str
    id: str = ""
    tool: str = ""
    t: float = 0.0


class CandidateEdited(Live, frozen=True):
    """The editable file as the agent sees it now (`after`) and the incumbent's (`before`).

    `findings`: what the audit says of the change so far.
    """

    n: int
    path: str
    before: str
    after: str
    findings: list[str] = []


class PermissionAsked(Live, frozen=True):
    """In approval mode: a CLI agent asks leave for a step of its own, and waits."""

    n: int
    id: str
    title: str
    kind: str = ""
    """What it would do: `edit`, `execute`, `fetch`, ..."""
    paths: list[str] = []
    advised: bool = False
    """The policy that answers outside approval mode would allow it."""


class PermissionAnswered(Live, frozen=True):
    """The question `id` is answered, or nobody waits for an answer any more."""

    n: int
    id: str
    allowed: bool


class PhaseChanged(Live, frozen=True):
    """The training process entered a phase of its own."""

    n: int
    training: int
    phase: str


class Progress(Live, frozen=True):
    """One progress line of the trainer, parsed; fields it did not print are None."""

    n: int = 0
    training: int = 0
    step: int = 0
    fraction: float = 0.0
    loss: float | None = None
    lrm: float | None = None
    dt_ms: float | None = None
    tokens_per_s: float | None = None
    mfu_percent: float | None = None
    epoch: float | None = None
    remaining_s: float | None = None
    extra: dict[str, str] = {}


class LogLines(Live, frozen=True):
    """New output of the trainer, control characters already removed."""

    n: int
    training: int
    text: str


class Telemetry(Live, frozen=True):
    """The machine, every few seconds. GPU fields are None without one."""

    cpu_percent: float
    memory_gb: float
    memory_total_gb: float
    gpu_name: str | None = None
    gpu_percent: float | None = None
    gpu_memory_gb: float | None = None
    gpu_temperature_c: float | None = None
    gpu_power_w: float | None = None


class Notice(Live, frozen=True):
    """Something the human should see now."""

    level: Literal["info", "warning", "error"]
    text: str


DurableEvent = (
    RunCreated
    | EngineStarted
    | EngineStopping
    | EngineStopped
    | ExperimentStarted
    | CandidateCommitted
    | Spent
    | ApprovalRequested
    | Approved
    | Rejected
    | RepairGivenUp
    | TrainingStarted
    | TrainingLost
    | TrainingFinished
    | Judged
    | Logged
    | RerunAsked
    | Overridden
    | Paused
    | Resumed
    | Steered
    | ModeSet
    | LimitsSet
)
LiveEvent = (
    Preparing
    | AgentDelta
    | CandidateEdited
    | PermissionAsked
    | PermissionAnswered
    | PhaseChanged
    | Progress
    | LogLines
    | Telemetry
    | Notice
)
AnyEvent = DurableEvent | LiveEvent


class Record(Struct, frozen=True, tag="record"):
    """One event with its number (0 for live events) and time. A journal line is one of these."""

    seq: int
    t: float
    event: AnyEvent


# --- commands -----------------------------------------------------------------------------------------------


class Command(Struct, frozen=True, tag_field="type"):
    """Base of what a client may ask. Each is answered by one `Reply`."""


class Pause(Command, frozen=True):
    """Let the run under way end, then start nothing new."""


class Resume(Command, frozen=True):
    pass


class Approve(Command, frozen=True):
    """Train candidate `n` (None: the one that waits longest), before all others in the queue with `first`."""

    n: int | None = None
    first: bool = False


class Reject(Command, frozen=True):
    """Do not train candidate `n`, which waits or is queued; the reason goes to the agent."""

    reason: str
    n: int | None = None


class Edit(Command, frozen=True):
    """Replace waiting candidate `n`'s editable file by `text`."""

    n: int
    text: str


class Permit(Command, frozen=True):
    """Answer what a CLI agent asks leave for (`id` empty: the question that waits longest)."""

    allow: bool
    id: str = ""


class StopTraining(Command, frozen=True):
    """End the training of experiment `n` now (None: the one that started first). The experiment counts as
    discarded, with this reason."""

    reason: str = "stopped by hand"
    n: int | None = None


class StopEngine(Command, frozen=True):
    """Stop after the run under way, or `now`: it is trained again after the next start."""

    now: bool = False


class Steer(Command, frozen=True):
    text: str


class SetMode(Command, frozen=True):
    approval: bool


class SetLimits(Command, frozen=True):
    limits: Limits


class Override(Command, frozen=True):
    """Change the verdict of a judged experiment."""

    n: int
    status: Literal["keep", "discard"]
    reason: str = ""


class RunAgain(Command, frozen=True):
    """Train a judged experiment once more, with another seed, when the run under way has ended."""

    n: int


class GetExperiment(Command, frozen=True):
    """Ask for everything kept about experiment `n`; the reply's `detail` holds it."""

    n: int


class GetOthers(Command, frozen=True):
    """Ask for the rows of results.tsv that are not this run's; the reply's `rows` holds them."""


AnyCommand = (
    Pause
    | Resume
    | Approve
    | Reject
    | Edit
    | Permit
    | StopTraining
    | StopEngine
    | Steer
    | SetMode
    | SetLimits
    | Override
    | RunAgain
    | GetExperiment
    | GetOthers
)


class CurvePoint(Struct, frozen=True, array_like=True):
    """Training loss at a share of the budget."""

    fraction: float
    loss: float


class ExperimentDetail(Struct, frozen=True):
    """What the experiment screen shows besides the state: both files, log, transcript and loss curve."""

    n: int
    path: str
    before: str = ""
    after: str = ""
    log: str = ""
    transcript: list[AgentDelta] = []
    curve: list[CurvePoint] = []


class Request(Struct, frozen=True, tag="request"):
    id: int
    command: AnyCommand


class Reply(Struct, frozen=True, tag="reply"):
    """Answer to the request `id`; `text` says what happens now, or why not."""

    id: int
    ok: bool
    text: str = ""
    detail: ExperimentDetail | None = None
    rows: list[str] = []


class Hello(Struct, frozen=True, tag="hello"):
    """First message on every connection."""

    version: str
    format: int
    pid: int


encode = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(Record).decode
decode_request = msgspec.json.Decoder(Request).decode

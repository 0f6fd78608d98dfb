"""Every event and every command, as types. The lines of journal and socket are these classes as JSON.

Two kinds of events share one stream of `Record`s:

- *durable* events are decisions. They have numbers, are written to the journal before the side effect that
  they announce, and make the same state whenever they are read again.
- *live* events are streams: the agent's text, training progress, log lines. They have the number 0, are shown
  and dropped; the whole text is in the experiment's own files.

Times are seconds since the epoch, durations seconds, memory GB (2**30 bytes), `val_bpb` bits per byte.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

FORMAT = 2
"""Version of these classes as a format. A journal with a newer one is refused; `loop.records.older_format`
reads the older ones."""

Outcome = Literal["finished", "crashed", "timeout", "stopped", "doomed"]
"""How a training ended. `stopped`: a human ended it. `doomed`: the engine ended it, because its loss showed
that it would not become better than the incumbent (`loop.judging.early_stop`)."""

Status = Literal["keep", "discard", "crash"]
"""The verdict in one word, as in results.tsv."""

DeltaKind = Literal["text", "thinking", "tool", "result", "retry", "human", "note", "error"]
"""What a piece of transcript is, in this order: the agent's words, its thinking, a tool call, the tool's
answer, a wait before a retry, a human's message, a remark of the engine, a failure."""


class Usage(Struct, frozen=True, gc=False):
    """What a proposal cost. Tokens are counts; `dollars` is None when the model's price is unknown."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    dollars: float | None = None
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        if other == NO_USAGE:
            return self  # such as every proposal of `search`: a long run keeps many of them
        known = [d for d in (self.dollars, other.dollars) if d is not None]
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            sum(known) if known else None,
            self.seconds + other.seconds,
        )


NO_USAGE = Usage()


class Limits(Struct, frozen=True):
    """When the engine ends or pauses by itself; None means no limit."""

    max_experiments: int | None = None
    """Experiments of the run that have a verdict, the baseline included."""
    max_hours: float | None = None
    """Hours since the engine started."""
    max_cost: float | None = None
    """Dollars that the proposals of the run have cost."""
    max_crashes: int | None = 10
    """Crashes one after another."""
    until: str = ""
    """The goal: a comparison of the metric such as `val_bpb < 1.2`; empty for none."""


# --- durable events -----------------------------------------------------------------------------------------


class Event(Struct, frozen=True, tag_field="type", omit_defaults=True, gc=False):
    """Base of all events. The JSON field `type` is the class name; fields with their default are left out."""


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
    """An engine process begins to work on the run, with these settings."""

    pid: int
    version: str
    agent: str
    model: str = ""
    budget_s: float = 300.0
    timeout_s: float = 600.0
    sandbox: str = "off"
    approval: bool = False
    limits: Limits = Limits()
    keep_models: int = 3
    """How many models are kept besides the incumbent's."""
    seats: int = 1
    """How many trainings may run at once."""
    gpu: str = ""
    """Name of the GPUs that they run on; empty where there are none."""
    budget_why: str = ""
    """Why the budget is shorter than usual although nobody asked for that; empty where it is not."""


class EngineStopped(Event, frozen=True):
    """The engine has ended in order. After `kill -9` this event is missing."""

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
    agent: str = ""
    """Name of the agent that works it out, where there are several."""


class CandidateCommitted(Event, frozen=True):
    """The proposal is a git commit. A repair, or a merge onto a new incumbent, gives `n` another commit."""

    n: int
    commit: str
    parent: str
    description: str
    hypothesis: str = ""
    added: int = 0
    removed: int = 0
    usage: Usage = Usage()
    author: Literal["agent", "human", "engine"] = "agent"
    heard: list[int] = []
    """Ids of the waiting messages (`RunState.steering`) that the agent had heard when it proposed this."""
    steered: int = 0
    """How many of them, the oldest, in journals of 0.1.0, which have no ids."""
    agent: str = ""
    """Name of the agent that proposed it, where several take turns."""
    findings: list[str] = []
    """What the audit of the change found, a sentence each."""
    refused: str = ""
    """Why the audit refuses to train it: then it counts as rejected. Empty when it does not."""
    combines: list[int] = []
    """Numbers of the experiments whose changes it puts together."""


class Spent(Event, frozen=True):
    """An attempt at proposal `n` led to no candidate; this is what it cost."""

    n: int
    usage: Usage


class ApprovalRequested(Event, frozen=True):
    """Candidate `n` waits for a human's approval."""

    n: int


class Approved(Event, frozen=True):
    """Candidate `n` may be trained."""

    n: int
    first: bool = False
    """It comes before everything else in the queue."""


class Rejected(Event, frozen=True):
    """A human refused candidate `n`: it is not trained and gets no row."""

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
    """Number of the seat that it takes, counted from 0."""
    why: str = ""
    """Why the experiment trains again; empty for its first training."""
    needed: str = ""
    """What it must measure to be kept, in words, as things stood when it started."""


class TrainingLost(Event, frozen=True):
    """A training ended without a result, because its supervisor or its machine ended.

    It starts again with the same seed, as the next attempt.
    """

    n: int
    training: int
    attempt: int
    """Number of the attempt that was lost, counted from 1."""
    reason: str
    place: str = ""
    """Name of the machine where it ran; empty where that is not known."""


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
    """`value` was measured by the judge; else the trainer printed it."""
    hidden: float | None = None
    """The metric on the hidden text, which no agent is told; None where the trainer has none."""
    flags: list[str] = []
    """Why this number cannot be kept, a sentence each; `loop.judging.trust` finds them."""
    data: str = ""
    """Name of the data that the judge measured on."""
    about: str = ""
    """The data in words, e.g. `sympy, vocabulary 4,096, context 256`."""
    used_seconds: float = 0.0
    """From the trainer's start to its exit, on the clock that its budget counts: the wall's, or the CPU time
    of all its processes. 0 where no judge measured."""
    judge_seconds: float = 0.0
    """How long the judge took."""
    probes: int = 0
    """How many of its claims the judge had proved."""
    model_bytes: int = 0
    """Size of the model that it saved; 0 when it saved none."""
    place: str = ""
    """Name of the machine where it ran; empty where that is not known."""


class Judged(Event, frozen=True):
    """The verdict on experiment `n`. Written before the branch moves and before the row is written."""

    n: int
    status: Status
    commit: str
    value: float | None
    memory_gb: float
    reason: str
    delta: float | None = None
    """`value` minus the incumbent's value at that time; negative is better when the direction is `min`."""
    evidence: str = ""
    """How large `delta` is beside the noise, in words."""
    stderr: float | None = None
    """Standard error of `delta`; None when the noise is not known, and when there is none."""
    trainings: int = 1
    """How many trainings of the candidate `value` is the mean of."""
    incumbent: str = ""
    """The commit this was judged against: the incumbent when its training began; empty for the baseline."""
    short: str = ""
    """`reason` in at most a few words, for a narrow column."""
    copies: int = 0
    """How many lines equal to its row results.tsv held before; a restarted engine needs this number."""


class Logged(Event, frozen=True):
    """The verdict on experiment `n` is written: branch, git note and row of results.tsv."""

    n: int
    copies: int | None = None
    """How many other lines of results.tsv are equal to that row; None in journals of version 0.1.0."""


class RerunAsked(Event, frozen=True):
    """A human wants one more training of experiment `n`."""

    n: int


class Overridden(Event, frozen=True):
    """A human changed a verdict."""

    n: int
    status: Literal["keep", "discard"]
    reason: str = ""


class Paused(Event, frozen=True):
    """Nothing new starts until `Resumed`."""

    reason: str
    by: Literal["human", "engine"] = "human"


class Resumed(Event, frozen=True):
    """The run goes on after a pause."""


class Steered(Event, frozen=True):
    """A human's message for the agent's next turn."""

    text: str


class TakenBack(Event, frozen=True):
    """A human took back the message with this id, which had waited for the agent."""

    id: int


class Asked(Event, frozen=True):
    """A human's question: an agent answers it in words, in the transcript of the newest experiment."""

    text: str


class Answered(Event, frozen=True):
    """The question that came with record number `id` has its answer, or cannot be answered."""

    id: int


class ModeSet(Event, frozen=True):
    """A human switched approval mode on or off: whether candidates wait for approval."""

    approval: bool


class LimitsSet(Event, frozen=True):
    """A human set other limits."""

    limits: Limits


# --- live events --------------------------------------------------------------------------------------------


class Live(Event, frozen=True):
    """Base of the events that are shown but not journaled."""


class Preparing(Live, frozen=True):
    """A line that the data preparation printed; empty when it is done."""

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
    """The agent edited the file at `path`, which is no commit yet."""

    n: int
    path: str
    before: str
    """The text of the incumbent."""
    after: str
    """The text as it is now."""
    findings: list[str] = []
    """What the audit says of the change so far, a sentence each."""


class PermissionAsked(Live, frozen=True):
    """In approval mode: a CLI agent asks for permission to do something on the machine, and waits."""

    n: int
    id: str
    title: str
    kind: str = ""
    """What it wants to do, in the agent's word: `edit`, `execute`, `fetch`, ..."""
    paths: list[str] = []
    """Files that it names."""
    advised: bool = False
    """Whether it would be allowed outside approval mode."""


class PermissionAnswered(Live, frozen=True):
    """The question `id` is answered, or the agent does not wait for the answer any more."""

    n: int
    id: str
    allowed: bool


class TrainingPlaced(Live, frozen=True):
    """The training runs now, on the machine of this name."""

    n: int
    training: int
    place: str


class PhaseChanged(Live, frozen=True):
    """The trainer printed `phase: NAME`."""

    n: int
    training: int
    phase: str


class Progress(Live, frozen=True):
    """A progress line that the trainer printed; what it did not print is None (docs/formats.md)."""

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


class Gpu(Struct, frozen=True, array_like=True):
    """How busy one GPU is; a figure that it does not tell is None."""

    name: str = ""
    percent: float | None = None
    memory_gb: float | None = None
    memory_total_gb: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None


class Telemetry(Live, frozen=True):
    """How busy the engine's machine is, every few seconds."""

    cpu_percent: float
    memory_gb: float
    memory_total_gb: float
    gpus: list[Gpu] = []
    """Empty where there are none, or NVML cannot read them."""
    engine_cpu_percent: float = 0.0  # of one processor; `cpu_percent` is of all
    engine_memory_gb: float = 0.0


class Notice(Live, frozen=True):
    """A message for the human."""

    level: Literal["info", "warning", "error"]
    text: str


DurableEvent = (
    RunCreated | EngineStarted | EngineStopping | EngineStopped | ExperimentStarted | CandidateCommitted
    | Spent | ApprovalRequested | Approved | Rejected | RepairGivenUp | TrainingStarted | TrainingLost
    | TrainingFinished | Judged | Logged | RerunAsked | Overridden | Paused | Resumed | Steered
    | TakenBack | Asked | Answered | ModeSet | LimitsSet
)  # fmt: skip
LiveEvent = (
    Preparing | AgentDelta | CandidateEdited | PermissionAsked | PermissionAnswered | TrainingPlaced
    | PhaseChanged | Progress | LogLines | Telemetry | Notice
)  # fmt: skip
AnyEvent = DurableEvent | LiveEvent


class Record(Struct, frozen=True, tag="record"):
    """One event with its number (0 for live events) and time. A journal line is one of these."""

    seq: int
    t: float
    event: AnyEvent


# --- commands -----------------------------------------------------------------------------------------------


class Command(Struct, frozen=True, tag_field="type"):
    """Base of what a client may ask of the engine. Each command is answered by one `Reply`."""


class Pause(Command, frozen=True):
    """Let the trainings under way end, and start nothing new."""


class Resume(Command, frozen=True):
    """Go on after a pause."""


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
    """Answer a CLI agent's question for permission (`id` empty: the one that waits longest)."""

    allow: bool
    id: str = ""


class StopTraining(Command, frozen=True):
    """End the training of experiment `n` now (None: the one that started first). The experiment counts as
    discarded, with this reason."""

    reason: str = "stopped by hand"
    n: int | None = None
    training: int | None = None
    """Number of the training within the experiment; None: all that run."""


class StopEngine(Command, frozen=True):
    """End the engine when the trainings under way have ended. With `now` they are ended, and started again by
    the next engine."""

    now: bool = False


class Steer(Command, frozen=True):
    """Tell the agent something in its next turn."""

    text: str


class SetMode(Command, frozen=True):
    """Switch approval mode on or off."""

    approval: bool


class SetLimits(Command, frozen=True):
    """Set other limits: a line of text such as `experiments 100, until val_bpb < 1.2`."""

    text: str


class TakeBack(Command, frozen=True):
    """Take back a message that waits for the agent."""

    id: int


class Override(Command, frozen=True):
    """Change the verdict of a judged experiment."""

    n: int
    status: Literal["keep", "discard"]
    reason: str = ""


class RunAgain(Command, frozen=True):
    """Train a judged experiment once more, with another seed, when a training under way has ended."""

    n: int


class GetExperiment(Command, frozen=True):
    """Ask for everything kept about experiment `n`; the reply's `detail` holds it."""

    n: int


class GetOthers(Command, frozen=True):
    """Ask for the rows of results.tsv that are not this run's; the reply's `rows` holds them."""


AnyCommand = (
    Pause | Resume | Approve | Reject | Edit | Permit | StopTraining | StopEngine | Steer | TakeBack
    | SetMode | SetLimits | Override | RunAgain | GetExperiment | GetOthers
)  # fmt: skip


class CurvePoint(Struct, frozen=True, array_like=True):
    """A point of a loss curve: the training loss at a share of the budget (0 to 1)."""

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
    """A command from a client, with a number of the client's choice."""

    id: int
    command: AnyCommand


class Reply(Struct, frozen=True, tag="reply"):
    """Answer to the request of this `id`; `text` says what happens now, or why nothing does."""

    id: int
    ok: bool
    text: str = ""
    detail: ExperimentDetail | None = None
    rows: list[str] = []


class Hello(Struct, frozen=True, tag="hello"):
    """First message on every connection: who answers."""

    version: str
    format: int
    pid: int


encode = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(Record).decode
decode_request = msgspec.json.Decoder(Request).decode

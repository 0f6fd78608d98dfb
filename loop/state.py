"""The state of a run, as a pure function of its events: `fold(records) -> RunState`.

Engine, clients and replays all hold the same `RunState` and feed it the same `Record`s, so a screen that
attaches late, or after the run has ended, shows what a screen that was there all along shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct, field

from loop import events as ev

TRANSCRIPT_TAIL = 400
"""Pieces of transcript a late client gets at once; the whole is in the experiment's files."""
LOG_TAIL = 200
"""Lines of trainer output kept in the state."""
CURVE_POINTS = 600
"""Points of the live loss curve before it is thinned by half."""

ExperimentPhase = Literal[
    "proposing", "waiting", "queued", "training", "judging", "keep", "discard", "crash", "rejected"
]
Phase = Literal["starting", "preparing", "proposing", "waiting", "training", "judging", "paused", "stopped"]


class Run(Struct):
    """One training process of an experiment."""

    run: int
    seed: int
    commit: str
    budget_s: float
    started_at: float
    slot: int = 0
    finished_at: float | None = None
    outcome: ev.Outcome | None = None
    reason: str = ""
    value: float | None = None
    memory_gb: float = 0.0
    training_seconds: float = 0.0
    summary: dict[str, float | str] = {}
    verified: bool = False


class Experiment(Struct):
    """One idea: proposed, trained once or more, judged."""

    n: int
    parent: str
    phase: ExperimentPhase = "proposing"
    commit: str = ""
    description: str = ""
    hypothesis: str = ""
    added: int = 0
    removed: int = 0
    author: str = "agent"
    started_at: float = 0.0
    finished_at: float | None = None
    runs: list[Run] = field(default_factory=list)
    value: float | None = None
    memory_gb: float = 0.0
    delta: float | None = None
    reason: str = ""
    incumbent: str = ""
    copies: int = 0
    replaced: str = ""
    """The status that results.tsv may still show after a human changed the verdict."""
    approved: bool = False
    logged: bool = False
    usage: ev.Usage = ev.Usage()

    @property
    def judged(self) -> bool:
        """It has a verdict, and so a row in results.tsv."""
        return self.phase in ("keep", "discard", "crash")

    @property
    def last_run(self) -> Run | None:
        return self.runs[-1] if self.runs else None


class LiveView(Struct):
    """What only matters while it happens."""

    preparing: str = ""
    transcript: list[ev.AgentDelta] = field(default_factory=list)
    edited: ev.CandidateEdited | None = None
    phase: str = ""
    progress: ev.Progress | None = None
    curve: list[ev.CurvePoint] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    telemetry: ev.Telemetry | None = None


class RunState(Struct):
    """Everything known about one run. Change it only through `apply`."""

    seq: int = 0
    tag: str = ""
    repository: str = ""
    base: str = ""
    editable: str = ""
    metric: str = "val_bpb"
    direction: Literal["min", "max"] = "min"
    train_command: list[str] = field(default_factory=list)
    created_at: float = 0.0
    engine: ev.EngineStarted | None = None
    engine_started_at: float = 0.0
    stopped: str | None = None
    """Why the engine left, None while it runs."""
    paused: str | None = None
    """Why nothing new starts, None when not paused."""
    approval: bool = False
    limits: ev.Limits = ev.Limits()
    experiments: list[Experiment] = field(default_factory=list)
    incumbent: int | None = None
    """Number of the experiment that is the incumbent, None before the baseline."""
    baseline: float | None = None
    steering: list[str] = field(default_factory=list)
    """Human messages no proposal has seen yet."""
    usage: ev.Usage = ev.Usage()
    live: LiveView = field(default_factory=LiveView)

    # --- questions ---

    def experiment(self, n: int) -> Experiment:
        """Experiment number `n`, counted from 1; KeyError when there is none."""
        if not 1 <= n <= len(self.experiments):
            raise KeyError(n)
        return self.experiments[n - 1]

    @property
    def incumbent_commit(self) -> str:
        return self.experiment(self.incumbent).commit if self.incumbent else self.base

    @property
    def best(self) -> float | None:
        """The incumbent's metric, None before the baseline."""
        return self.experiment(self.incumbent).value if self.incumbent else None

    @property
    def rows(self) -> int:
        """Experiments with a verdict."""
        return sum(e.judged for e in self.experiments)

    @property
    def kept(self) -> int:
        return sum(e.phase == "keep" for e in self.experiments)

    @property
    def crashed(self) -> int:
        return sum(e.phase == "crash" for e in self.experiments)

    @property
    def training(self) -> Experiment | None:
        """The experiment whose trainer runs now."""
        return next((e for e in reversed(self.experiments) if e.phase == "training"), None)

    @property
    def proposing(self) -> Experiment | None:
        return next((e for e in reversed(self.experiments) if e.phase == "proposing"), None)

    @property
    def waiting(self) -> Experiment | None:
        """The candidate that waits longest for the human's approval."""
        return next((e for e in self.experiments if e.phase == "waiting"), None)

    @property
    def phase(self) -> Phase:
        """One word for the status line."""
        if self.stopped is not None:
            return "stopped"
        phases = {e.phase for e in self.experiments[-8:]}
        if "training" in phases:
            return "training"
        if "judging" in phases:
            return "judging"
        if self.paused is not None:
            return "paused"
        if "waiting" in phases:
            return "waiting"
        if self.live.preparing:
            return "preparing"
        return "proposing" if phases & {"proposing", "queued"} else "starting"

    def better(self, value: float, than: float) -> bool:
        return value < than if self.direction == "min" else value > than

    def per_hour(self, now: float) -> float | None:
        """Experiments an hour over the last ten verdicts; None before the second one."""
        ends = [e.finished_at for e in self.experiments[-30:] if e.finished_at is not None][-11:]
        if len(ends) < 2 or ends[-1] <= ends[0]:
            return None
        return (
            (len(ends) - 1) * 3600 / (max(now, ends[-1]) - ends[0])
            if now - ends[-1] > 1800
            else ((len(ends) - 1) * 3600 / (ends[-1] - ends[0]))
        )

    # --- change ---

    def apply(self, record: ev.Record) -> None:
        """Take in the next record. Durable records already seen (by `seq`) are ignored."""
        if record.seq and record.seq <= self.seq:
            return
        self.seq = record.seq or self.seq
        _apply(self, record.event, record.t)


def fold(records: Iterable[ev.Record]) -> RunState:
    """The state after these records."""
    state = RunState()
    for record in records:
        state.apply(record)
    return state


def _apply(s: RunState, event: ev.AnyEvent, t: float) -> None:
    match event:
        case ev.RunCreated():
            s.tag, s.repository, s.base = event.tag, event.repository, event.base
            s.editable, s.train_command = event.editable, list(event.train_command)
            s.metric, s.direction, s.created_at = event.metric, event.direction, t
        case ev.EngineStarted():
            s.engine, s.engine_started_at, s.stopped, s.paused = event, t, None, None
            s.approval, s.limits = event.approval, event.limits
            s.live = LiveView()
        case ev.EngineStopped(reason=reason):
            s.stopped = reason
        case ev.Paused(reason=reason):
            s.paused = reason
        case ev.Resumed():
            s.paused = None
        case ev.Steered(text=text):
            s.steering.append(text)
        case ev.Spent(n=n, usage=usage):
            e = s.experiment(n)
            e.usage, s.usage = e.usage + usage, s.usage + usage
        case ev.ModeSet(approval=approval):
            s.approval = approval
        case ev.LimitsSet(limits=limits):
            s.limits = limits
        case ev.ExperimentStarted() | ev.CandidateCommitted() | ev.ApprovalRequested() | ev.Approved():
            _apply_proposal(s, event, t)
        case ev.Rejected(n=n, reason=reason):
            e = s.experiment(n)
            e.phase, e.reason, e.finished_at = "rejected", reason, t
            s.steering.append(f"Experiment {n} was rejected: {reason}")
        case ev.RunStarted() | ev.RunFinished():
            _apply_run(s, event, t)
        case ev.Judged() | ev.Logged() | ev.Overridden():
            _apply_verdict(s, event, t)
        case _:
            _apply_live(s.live, event)


def _apply_proposal(
    s: RunState,
    event: ev.ExperimentStarted | ev.CandidateCommitted | ev.ApprovalRequested | ev.Approved,
    t: float,
) -> None:
    match event:
        case ev.ExperimentStarted(n=n, parent=parent):
            if n == len(s.experiments) + 1:
                s.experiments.append(Experiment(n=n, parent=parent, started_at=t))
            else:  # its first proposal was lost with its engine, or did not fit a new incumbent
                s.experiments[n - 1] = Experiment(
                    n=n, parent=parent, started_at=t, usage=s.experiment(n).usage
                )
        case ev.CandidateCommitted():
            e = s.experiment(event.n)
            e.commit, e.parent, e.author = event.commit, event.parent, event.author
            e.description, e.hypothesis = event.description, event.hypothesis
            e.added, e.removed, e.phase = event.added, event.removed, "queued"
            e.usage = e.usage + event.usage
            s.usage = s.usage + event.usage
            del s.steering[: event.steered]
        case ev.ApprovalRequested(n=n):
            s.experiment(n).phase = "waiting"
        case ev.Approved(n=n):
            e = s.experiment(n)
            e.phase, e.approved = "queued", True


def _apply_run(s: RunState, event: ev.RunStarted | ev.RunFinished, t: float) -> None:
    e = s.experiment(event.n)
    if isinstance(event, ev.RunStarted):
        run = Run(event.run, event.seed, event.commit, event.budget_s, started_at=t, slot=event.slot)
        e.runs = [r for r in e.runs if r.run != event.run] + [run]
        e.phase = "training"
        s.live.phase, s.live.progress, s.live.curve, s.live.log = "starting", None, [], []
        return
    for run in e.runs:
        if run.run == event.run:
            run.finished_at, run.outcome, run.reason = t, event.outcome, event.reason
            run.value, run.memory_gb, run.summary = event.value, event.memory_gb, event.summary
            run.training_seconds, run.verified = event.training_seconds, event.verified
    e.phase = "judging"
    s.live.phase = ""


def _apply_verdict(s: RunState, event: ev.Judged | ev.Logged | ev.Overridden, t: float) -> None:
    e = s.experiment(event.n)
    match event:
        case ev.Judged():
            e.phase, e.commit, e.value = event.status, event.commit, event.value
            e.memory_gb, e.delta, e.reason = event.memory_gb, event.delta, event.reason
            e.incumbent, e.copies, e.finished_at = event.incumbent, event.copies, t
            if event.status == "keep":
                s.incumbent = event.n
                if s.baseline is None:
                    s.baseline = event.value
        case ev.Logged():
            e.logged = True
        case ev.Overridden(status=status, reason=reason):
            e.replaced = e.phase if e.logged else e.replaced
            e.phase, e.logged = status, False
            e.reason = f"{status} by hand" + (f": {reason}" if reason else "")
            if status == "keep":
                s.incumbent = event.n
            elif s.incumbent == event.n:
                s.incumbent = next((x.n for x in reversed(s.experiments) if x.phase == "keep"), None)


def _apply_live(live: LiveView, event: ev.AnyEvent) -> None:
    match event:
        case ev.Preparing(text=text):
            live.preparing = text
        case ev.AgentDelta():
            _append_delta(live.transcript, event)
        case ev.CandidateEdited():
            live.edited = event
        case ev.PhaseChanged(phase=phase):
            live.phase = phase
        case ev.Progress():
            live.progress = event
            if event.loss is not None and math.isfinite(event.loss):
                live.curve.append(ev.CurvePoint(event.fraction, event.loss))
                if len(live.curve) > CURVE_POINTS:
                    live.curve[:] = live.curve[::2]
        case ev.LogLines(text=text):
            live.log.extend(text.splitlines())
            del live.log[:-LOG_TAIL]
        case ev.Telemetry():
            live.telemetry = event
        case _:
            pass


def _append_delta(transcript: list[ev.AgentDelta], delta: ev.AgentDelta) -> None:
    """Append, joining streamed pieces of one message so that the tail holds messages, not tokens."""
    last = transcript[-1] if transcript else None
    if last and delta.id and (last.n, last.id, last.kind) == (delta.n, delta.id, delta.kind):
        transcript[-1] = ev.AgentDelta(
            last.n, last.kind, last.text + delta.text, last.id, last.tool or delta.tool, last.t
        )
    else:
        transcript.append(delta)
        del transcript[:-TRANSCRIPT_TAIL]

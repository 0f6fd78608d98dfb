"""The state of a run, as a pure function of its events: `fold(records) -> RunState`.

Engine, clients and replays all hold the same `RunState` and feed it the same `Record`s, so a screen that
attaches late, or after the run has ended, shows what a screen that was there all along shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Literal

from msgspec import Struct, field

from loop import events as ev
from loop.live import LiveView as LiveView
from loop.text import clean

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
    hidden: float | None = None
    """The metric on the audit split, which no agent is told."""
    flags: list[str] = []
    """Why this run's number cannot be kept."""
    data: str = ""
    """Name of the data it was evaluated on."""
    excluded_seconds: float = 0.0
    """What its budget clock left out."""


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
    stderr: float | None = None
    """Standard error of `delta`."""
    evidence: str = ""
    reason: str = ""
    findings: list[str] = []
    """What the audit says about the candidate's change."""
    combines: list[int] = []
    """Near misses that this experiment puts together."""
    by_hand: bool = False
    """A human changed its verdict."""
    incumbent: str = ""
    copies: int = 0
    replaced: str = ""
    """The row that results.tsv may still show, after a verdict by hand or another run changed it."""
    approved: bool = False
    queued_seq: int = 0
    """Number of the record that put it in the queue: what was approved first trains first."""
    logged: bool = False
    usage: ev.Usage = ev.Usage()

    @property
    def judged(self) -> bool:
        """It has a verdict, and so a row in results.tsv."""
        return self.phase in ("keep", "discard", "crash")

    @property
    def last_run(self) -> Run | None:
        return self.runs[-1] if self.runs else None

    @property
    def values(self) -> list[float]:
        """The metric of each finished run of its commit."""
        return [
            r.value
            for r in self.runs
            if r.commit == self.commit and r.outcome == "finished" and r.value is not None
        ]

    @property
    def row(self) -> str:
        """Its line of results.tsv."""
        return format_row(self.commit, self.value, self.memory_gb, self.phase, self.description)


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
    running: int | None = None
    """Number of the experiment whose run is under way; a judged one may run again."""
    incumbent: int | None = None
    """Number of the experiment that is the incumbent, None before the baseline."""
    baseline: float | None = None
    reruns: list[int] = field(default_factory=list)
    """Judged experiments that a human wants to run once more."""
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
        """The incumbent's metric (the mean of its runs), None before the baseline."""
        return self.experiment(self.incumbent).value if self.incumbent else None

    @property
    def sealed(self) -> bool:
        """The trainer is ours: the unchanged code handed its number over through the evaluator's channel."""
        first = next((e for e in self.experiments if e.commit == self.base), None)
        return first is not None and any(run.verified for run in first.runs)

    @property
    def uses_budget(self) -> bool:
        """The unchanged code trains for its whole budget, as far as the clock on the wall tells."""
        first = next((e for e in self.experiments if e.commit == self.base), None)
        times = [(r.finished_at or 0) - r.started_at - r.budget_s for r in (first.runs if first else [])]
        return any(beyond >= 0 for beyond in times)

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
        return self.experiment(self.running) if self.running else None

    @property
    def proposing(self) -> Experiment | None:
        return next((e for e in reversed(self.experiments) if e.phase == "proposing"), None)

    @property
    def waiting(self) -> Experiment | None:
        """The candidate that waits longest for the human's approval."""
        return next((e for e in self.experiments if e.phase == "waiting"), None)

    @property
    def queue(self) -> list[Experiment]:
        """What waits for approval or to be trained: the next to train first, then in the order of coming."""
        found = [e for e in self.experiments[-50:] if e.phase in ("waiting", "queued")]
        return sorted(
            found, key=lambda e: (e.phase == "waiting", e.n if e.phase == "waiting" else e.queued_seq)
        )

    @property
    def phase(self) -> Phase:
        """One word for the status line."""
        if self.stopped is not None:
            return "stopped"
        if self.running:
            return "training"
        phases = {e.phase for e in self.experiments[-8:]}
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
    match event:  # the frequent ones first: a long run is many of them
        case ev.Live():
            s.live.apply(event)
        case ev.ExperimentStarted() | ev.CandidateCommitted() | ev.ApprovalRequested() | ev.Approved():
            _apply_proposal(s, event, t)
        case ev.RunStarted() | ev.RunFinished():
            _apply_run(s, event, t)
        case ev.Judged() | ev.Logged() | ev.Overridden():
            _apply_verdict(s, event, t)
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
        case ev.Rejected(n=n, reason=reason):
            _reject(s, s.experiment(n), reason, t)
        case ev.RerunAsked(n=n):
            s.reruns.append(n)


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
            e.queued_seq = s.seq
            e.findings = event.findings
            e.combines = event.combines
            e.usage = e.usage + event.usage
            s.usage = s.usage + event.usage
            del s.steering[: event.steered]
            if event.refused:
                _reject(s, e, event.refused, t)
        case ev.ApprovalRequested(n=n):
            s.experiment(n).phase = "waiting"
        case ev.Approved(n=n, first=first):
            e = s.experiment(n)
            e.phase, e.approved, e.queued_seq = "queued", True, -s.seq if first else s.seq


def _reject(s: RunState, e: Experiment, reason: str, t: float) -> None:
    """Not trained, no row; the agent is told why."""
    e.phase, e.reason, e.finished_at = "rejected", reason, t
    s.steering.append(f"Experiment {e.n} was rejected: {reason}")


def _apply_run(s: RunState, event: ev.RunStarted | ev.RunFinished, t: float) -> None:
    e = s.experiment(event.n)
    s.running = event.n if isinstance(event, ev.RunStarted) else None
    if isinstance(event, ev.RunStarted):
        run = Run(event.run, event.seed, event.commit, event.budget_s, started_at=t, slot=event.slot)
        e.runs = [r for r in e.runs if r.run != event.run] + [run]
        if not e.judged:
            e.phase = "training"
        if e.judged and event.n in s.reruns:
            s.reruns.remove(event.n)
        s.live.phase, s.live.progress, s.live.curve, s.live.log = "starting", None, [], []
        return
    for run in e.runs:
        if run.run == event.run:
            run.finished_at, run.outcome, run.reason = t, event.outcome, event.reason
            run.value, run.memory_gb, run.summary = event.value, event.memory_gb, event.summary
            run.training_seconds, run.verified = event.training_seconds, event.verified
            run.hidden, run.flags = event.hidden, event.flags
            run.data, run.excluded_seconds = event.data, event.excluded_seconds
    s.live.phase = ""
    if not e.judged:
        e.phase = "judging"
    elif e.values and e.phase != "crash":  # one more run of something judged: its mean moves, and its row
        e.replaced = e.row if e.logged else e.replaced
        e.value, e.logged = fmean(e.values), False
        if e.commit == s.base and s.baseline is not None:
            s.baseline = e.value


def _apply_verdict(s: RunState, event: ev.Judged | ev.Logged | ev.Overridden, t: float) -> None:
    e = s.experiment(event.n)
    match event:
        case ev.Judged():
            e.phase, e.commit, e.value = event.status, event.commit, event.value
            e.memory_gb, e.delta, e.reason = event.memory_gb, event.delta, event.reason
            e.evidence, e.stderr = event.evidence, event.stderr
            e.incumbent, e.copies, e.finished_at = event.incumbent, event.copies, t
            if event.status == "keep":
                s.incumbent = event.n
                if s.baseline is None:
                    s.baseline = event.value
        case ev.Logged():
            e.logged = True
        case ev.Overridden(status=status, reason=reason):
            e.replaced = e.row if e.logged else e.replaced
            e.phase, e.logged, e.by_hand = status, False, True
            e.reason = f"{status} by hand" + (f": {reason}" if reason else "")
            if status == "keep":
                s.incumbent = event.n
            elif s.incumbent == event.n:
                s.incumbent = next((x.n for x in reversed(s.experiments) if x.phase == "keep"), None)


def format_row(commit: str, value: float | None, memory_gb: float, status: str, description: str) -> str:
    """One line without its newline; a crash's value is 0.000000, tabs and newlines become spaces."""
    words = " ".join(clean(description).split())
    return f"{commit[:7]}\t{0.0 if value is None else value:.6f}\t{memory_gb:.1f}\t{status}\t{words}"

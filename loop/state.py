"""The state of a run, as a pure function of its events: `fold(records) -> RunState`.

Engine, clients and replays all hold the same `RunState` and feed it the same `Record`s. So a screen that
attaches late, or after the run has ended, shows what a screen shows that was there from the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Literal

from msgspec import Struct, field

from loop import events as ev
from loop.experiment import Experiment as Experiment
from loop.experiment import ExperimentPhase, Model, per_hour, worth_keeping
from loop.experiment import Message as Message
from loop.experiment import Training as Training
from loop.experiment import lineage as lineage
from loop.live import MEASURED_TAIL as MEASURED_TAIL
from loop.live import LiveView as LiveView
from loop.live import SeatView as SeatView
from loop.sharing import share

Phase = Literal["starting", "preparing", "proposing", "waiting", "training", "judging", "paused", "stopped"]

BY_HAND = "asked for by hand"
"""Why an experiment trains again that a human wants to train once more."""
ENGINE_SAYS = "The engine says: "
"""Begins the messages in `RunState.steering` that are not the human's."""


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
    stopping: str | None = None
    """Why the engine ends once what is under way has ended; None when nobody asked it to."""
    stopped: str | None = None
    """Why the engine left; None while it runs."""
    paused: str | None = None
    """Why nothing new starts; None when not paused."""
    judged_at_resume: int = -1
    """How many experiments had a verdict when the run was last resumed; -1 when it never was."""
    approval: bool = False
    limits: ev.Limits = ev.Limits()
    experiments: list[Experiment] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    """Numbers of the experiments that have neither a verdict nor been rejected, in order."""
    rows_due: list[int] = field(default_factory=list)
    """Numbers of the experiments whose verdict is not written down yet, the longest waiting first."""
    under_way: list[ev.TrainingStarted] = field(default_factory=list)
    """The trainings that run now. An experiment that is judged may train again."""
    incumbent: int | None = None
    """Number of the experiment that is the incumbent; None before the baseline."""
    baseline: float | None = None
    """The metric of the unchanged code (the mean of its trainings); None before it has trained."""
    reruns_asked: list[int] = field(default_factory=list)
    """Judged experiments that a human wants to train once more."""
    models: list[Model] = field(default_factory=list)
    """The models on disk. Before a verdict is logged, those that are not worth keeping are deleted."""
    steering: list[Message] = field(default_factory=list)
    """Messages for the agents that no candidate has taken up yet, the oldest first."""
    questions: list[Message] = field(default_factory=list)
    """Questions of the human that no agent has answered yet."""
    usage: ev.Usage = ev.Usage()
    live: LiveView = field(default_factory=LiveView)

    # --- questions ---

    def experiment(self, n: int) -> Experiment:
        """Experiment number `n`, counted from 1; KeyError when there is none."""
        if not 1 <= n <= len(self.experiments):
            raise KeyError(n)
        return self.experiments[n - 1]

    def in_phase(self, *phases: ExperimentPhase) -> list[Experiment]:
        """The open experiments in one of these phases, in order of their numbers."""
        return [e for n in self.open if (e := self.experiments[n - 1]).phase in phases]

    @property
    def incumbent_commit(self) -> str:
        return self.experiment(self.incumbent).commit if self.incumbent else self.base

    @property
    def best(self) -> float | None:
        """The incumbent's metric (the mean of its trainings); None before the baseline."""
        return self.experiment(self.incumbent).value if self.incumbent else None

    @property
    def has_judge(self) -> bool:
        """The judge measured the unchanged code: so it has to measure every candidate."""
        return any(t.finished is not None and t.finished.verified for t in self.baseline_trainings)

    @property
    def uses_budget(self) -> bool:
        """The unchanged code trained for its whole budget at least once, by the engine's clock."""
        return any(t.finished and t.finished.total_seconds >= t.budget_s for t in self.baseline_trainings)

    @property
    def baseline_trainings(self) -> tuple[Training, ...]:
        """The trainings of the unchanged code."""
        first = next((e for e in self.experiments if e.commit == self.base), None)
        return first.trainings if first else ()

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
        """The experiment that trains now; with several, the one whose training started first."""
        return self.experiment(self.under_way[0].n) if self.under_way else None

    @property
    def models_worth_keeping(self) -> list[Model]:
        """Which of the models on disk are to stay there."""
        most = self.engine.keep_models if self.engine else 0
        highest = self.direction == "max"
        return worth_keeping(self.models, self.experiments, self.incumbent, most, highest=highest)

    def trains(self, n: int) -> bool:
        """Experiment `n` has a training under way."""
        return any(started.n == n for started in self.under_way)

    @property
    def seat(self) -> SeatView:
        """The seat that a screen with room for one shows: the one that trains longest, else the first one."""
        if self.under_way:
            return self.live.seats.get(self.under_way[0].seat) or SeatView()
        return next(iter(self.live.seats.values()), SeatView())

    @property
    def proposing(self) -> Experiment | None:
        """The newest experiment that is being proposed."""
        return next(reversed(self.in_phase("proposing")), None)

    @property
    def waiting(self) -> Experiment | None:
        """The candidate that waits longest for the human's approval."""
        return next(iter(self.in_phase("waiting")), None)

    @property
    def queue(self) -> list[Experiment]:
        """Approved candidates in the order in which they will train, then those that wait for approval."""
        approved = sorted(self.in_phase("queued"), key=lambda e: (e.rank, e.queued_seq))
        return approved + self.in_phase("waiting")

    @property
    def phase(self) -> Phase:
        """One word for the status line."""
        if self.stopped is not None:
            return "stopped"
        if self.under_way:
            return "training"
        phases = {self.experiments[n - 1].phase for n in self.open}
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
        """Whether one value of the metric is better than another."""
        return value < than if self.direction == "min" else value > than

    def per_hour(self, now: float) -> float | None:
        """How many experiments an hour end lately; None before the second one."""
        return per_hour(self.experiments, now)

    # --- change ---

    def apply(self, record: ev.Record) -> None:
        """Take in the next record. Durable records that were taken in before (by `seq`) are ignored."""
        if not record.seq or record.seq > self.seq:
            self.seq = record.seq or self.seq
            _apply(self, share(record.event), record.t)


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
        case (
            ev.ExperimentStarted() | ev.CandidateCommitted() | ev.ApprovalRequested() | ev.Approved()
            | ev.Rejected() | ev.RepairGivenUp()
        ):  # fmt: skip
            _apply_proposal(s, event, t)
        case ev.TrainingStarted():
            _training_started(s, event, t)
        case ev.TrainingFinished():
            _training_finished(s, event, t)
        case ev.TrainingLost(n=n, training=training):
            for lost in s.experiment(n).trainings:
                if lost.number == training:
                    lost.attempt += 1
                    s.live.seats[lost.started.seat] = SeatView(n, training, "starting")
        case ev.Judged() | ev.Logged() | ev.Overridden():
            _apply_verdict(s, event, t)
        case ev.RunCreated():
            s.tag, s.repository, s.base = event.tag, event.repository, event.base
            s.editable, s.train_command = event.editable, list(event.train_command)
            s.metric, s.direction, s.created_at = event.metric, event.direction, t
        case ev.Spent(n=n, usage=usage):
            s.experiment(n).usage += usage
            s.usage += usage
        case ev.RerunAsked(n=n):
            s.reruns_asked.append(n)
        case _:
            _apply_to_engine(s, event, t)


def _apply_to_engine(s: RunState, event: ev.AnyEvent, t: float) -> None:
    """What happens to the engine itself, and what a human tells it."""
    match event:
        case ev.EngineStarted():
            s.engine, s.engine_started_at = event, t
            s.stopping = s.stopped = s.paused = None
            s.judged_at_resume = -1
            s.approval, s.limits = event.approval, event.limits
            s.live = LiveView()
            for started in s.under_way:
                s.live.seats[started.seat] = SeatView(started.n, started.training, "starting")
        case ev.EngineStopping(reason=reason):
            s.stopping = reason
        case ev.EngineStopped(reason=reason):
            s.stopped = reason
        case ev.Paused(reason=reason):
            s.paused = reason
        case ev.Resumed():
            s.paused, s.judged_at_resume = None, s.rows
        case ev.Asked(text=text):
            s.questions.append(Message(s.seq, text))
        case ev.Answered(id=id):
            s.questions = [question for question in s.questions if question.id != id]
        case ev.Steered(text=text):
            s.steering.append(Message(s.seq, text))
        case ev.TakenBack(id=id):
            s.steering = [message for message in s.steering if message.id != id]
        case ev.ModeSet(approval=approval):
            s.approval = approval
        case ev.LimitsSet(limits=limits):
            s.limits = limits
        case _:
            pass


def _apply_proposal(s: RunState, event: ev.DurableEvent, t: float) -> None:
    match event:
        case ev.ExperimentStarted(n=n, parent=parent, agent=agent):
            if n == len(s.experiments) + 1:
                s.experiments.append(Experiment(n, parent, started_at=t, proposing_seq=s.seq, agent=agent))
                s.open.append(n)
            else:
                _propose_again(s, s.experiment(n), event, t)
        case ev.CandidateCommitted():
            _candidate_committed(s, event, t)
        case ev.ApprovalRequested(n=n):
            s.experiment(n).phase = "waiting"
        case ev.Approved(n=n, first=first):
            e = s.experiment(n)
            e.phase, e.approved = "queued", True
            e.queued_seq = -s.seq if first else s.seq  # negative: before all others, the latest first
        case ev.Rejected(n=n, reason=reason):
            _reject(s, s.experiment(n), reason, t, by_human=True)
        case ev.RepairGivenUp(n=n):
            s.experiment(n).no_repair = True
        case _:
            pass


def _propose_again(s: RunState, e: Experiment, event: ev.ExperimentStarted, t: float) -> None:
    """Its engine died, or it did not fit a new incumbent. If it was better, the agents are told of it."""
    s.experiments[e.n - 1] = Experiment(
        n=e.n, parent=event.parent, started_at=t, proposing_seq=s.seq, usage=e.usage,
        trainings=e.trainings, moved=e.versions, agent=event.agent,
    )  # fmt: skip
    if event.why and (e.phase == "judging" or e.moved):
        words = f"Experiment {e.n} ({e.description}) promised a gain, but {event.why}."
        s.steering.append(Message(s.seq, f"{ENGINE_SAYS}{words}"))


def _candidate_committed(s: RunState, event: ev.CandidateCommitted, t: float) -> None:
    e = s.experiment(event.n)
    e.committed(event, s.seq, t)
    s.usage += event.usage
    del s.steering[: event.steered]
    s.steering = [message for message in s.steering if message.id not in event.heard]
    if event.refused:
        _reject(s, e, event.refused, t, by_human=False)


def _reject(s: RunState, e: Experiment, reason: str, t: float, *, by_human: bool) -> None:
    """Mark an experiment as rejected: it is not trained and gets no row. The agent is told why."""
    e.phase, e.reason, e.finished_at = "rejected", reason, t
    s.open = [n for n in s.open if n != e.n]
    words = f"Experiment {e.n} was rejected: {reason}"
    s.steering.append(Message(s.seq, words if by_human else f"{ENGINE_SAYS}{words}"))


def _training_started(s: RunState, event: ev.TrainingStarted, t: float) -> None:
    e = s.experiment(event.n)
    e.trainings = (*(x for x in e.trainings if x.number != event.training), Training(event, started_at=t))
    s.under_way = [x for x in s.under_way if (x.n, x.training) != (event.n, event.training)] + [event]
    if not e.judged:
        e.phase = "training"
    elif event.n in s.reruns_asked and event.why == BY_HAND:
        s.reruns_asked.remove(event.n)
    s.live.seats[event.seat] = SeatView(event.n, event.training, "starting")


def _training_finished(s: RunState, event: ev.TrainingFinished, t: float) -> None:
    e = s.experiment(event.n)
    for training in e.trainings:
        if training.number == event.training:
            training.ended(event, t)
            share(training)
    s.under_way = [x for x in s.under_way if (x.n, x.training) != (event.n, event.training)]
    if view := s.live.seat_of(event.n, event.training):
        view.phase = ""
    if event.model_bytes:
        s.models.append((event.n, event.training))
    if not e.judged:
        e.phase = "training" if s.trains(e.n) else "judging"
    elif e.values and e.phase != "crash":  # judged, and trained once more: its mean changes, and so its row
        _row_changes(s, e)
        e.value = fmean(e.values)
        if e.commit == s.base and s.baseline is not None:
            s.baseline = e.value


def _row_changes(s: RunState, e: Experiment) -> None:
    """The row of a judged experiment is about to change."""
    e.row_changes()
    if e.n not in s.rows_due:
        s.rows_due.append(e.n)


def _apply_verdict(s: RunState, event: ev.Judged | ev.Logged | ev.Overridden, t: float) -> None:
    e = s.experiment(event.n)
    match event:
        case ev.Judged():
            e.verdict, e.phase, e.commit = event, event.status, event.commit
            e.value, e.reason, e.finished_at, e.copies = event.value, event.reason, t, event.copies
            e.proposing_seq = e.queued_seq = 0
            s.open = [n for n in s.open if n != event.n]
            s.rows_due.append(event.n)
            if event.status == "keep":
                s.incumbent = event.n
                if s.baseline is None:
                    s.baseline = event.value
        case ev.Logged(n=n, copies=copies):
            e.logged, e.copies = True, e.copies if copies is None else copies
            s.rows_due = [x for x in s.rows_due if x != n]
            s.models = s.models_worth_keeping
        case ev.Overridden(status=status, reason=reason):
            _row_changes(s, e)
            e.phase, e.by_hand = status, True
            e.reason = f"{status} by hand" + (f": {reason}" if reason else "")
            if status == "keep":
                s.incumbent = event.n
            elif s.incumbent == event.n:
                s.incumbent = next((x.n for x in reversed(s.experiments) if x.phase == "keep"), None)

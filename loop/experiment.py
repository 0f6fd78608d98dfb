"""One experiment and its trainings, as the state holds them; and which of their models are kept."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
from msgspec import Struct, structs

from loop import events as ev
from loop.text import clean

ExperimentPhase = Literal[
    "proposing", "waiting", "queued", "training", "judging", "keep", "discard", "crash", "rejected"
]


NO_NUMBERS: dict[str, float | str] = {}
"""The summary of all events in the state, which is never changed."""
_names = msgspec.json.Decoder(list[str]).decode
_numbers = msgspec.json.Decoder(list[float | str]).decode


class Message(Struct, frozen=True):
    """Something that agents are to hear: from the human, or what was rejected and why."""

    id: int
    """Number of the record that it came with."""
    text: str


class Training(Struct, omit_defaults=True, gc=False):
    """One training process of an experiment: how it was started and, once it has ended, how it ended."""

    started: ev.TrainingStarted
    started_at: float
    finished: ev.TrainingFinished | None = None
    """None while it runs."""
    finished_at: float | None = None
    attempt: int = 1
    """Counts up each time the training is lost with its machine or its supervisor and starts again."""
    names: str = "[]"
    """The names in the summary of `finished`, which itself has none then, as a list in JSON."""
    printed: str = "[]"
    """The numbers of these names. As a dictionary they would be a quarter of the memory that a long run
    needs: `summary` reads them."""

    def ended(self, event: ev.TrainingFinished, t: float) -> None:
        """Take in how it ended, at the time `t`."""
        self.names = ev.encode(list(event.summary)).decode()
        self.printed = ev.encode(list(event.summary.values())).decode()
        self.finished, self.finished_at = structs.replace(event, summary=NO_NUMBERS), t

    @property
    def summary(self) -> dict[str, float | str]:
        """The numbers that the trainer printed at its end; none while it runs."""
        return dict(zip(_names(self.names), _numbers(self.printed), strict=True))

    @property
    def number(self) -> int:
        """Its number within the experiment, counted from 1."""
        return self.started.training

    @property
    def commit(self) -> str:
        return self.started.commit

    @property
    def seed(self) -> int:
        return self.started.seed

    @property
    def budget_s(self) -> float:
        return self.started.budget_s

    @property
    def outcome(self) -> ev.Outcome | None:
        """How it ended; None while it runs."""
        return self.finished.outcome if self.finished else None

    @property
    def value(self) -> float | None:
        """The metric it measured; None while it runs, and when there is no number to believe."""
        return self.finished.value if self.finished else None


class Experiment(Struct, omit_defaults=True, gc=False):
    """One idea: proposed, trained once or more, judged."""

    n: int
    parent: str
    """The commit that it changes: the incumbent of that time."""
    phase: ExperimentPhase = "proposing"
    commit: str = ""
    """Its candidate; empty while it is being proposed."""
    description: str = ""
    """What it changes, in a few words: the last column of results.tsv."""
    hypothesis: str = ""
    """Why that should help."""
    added: int = 0
    """Lines that it adds to the editable file; `removed` are those that it takes away."""
    removed: int = 0
    author: str = "agent"
    started_at: float = 0.0
    """When its proposal began; seconds since the epoch."""
    finished_at: float | None = None
    """When it was judged or rejected."""
    trainings: tuple[Training, ...] = ()
    value: float | None = None
    """The mean of the metric over the trainings that it has had so far; None for a crash."""
    reason: str = ""
    short: str = ""
    """Why the verdict is what it is, in a few words; empty without one, and once a human changed it."""
    memory_gb: float = 0.0
    """Peak memory as the verdict names it; 0 before there is one."""
    delta: float | None = None
    """Its value minus the incumbent's value when it was judged; None without a verdict or incumbent."""
    stderr: float | None = None
    """Standard error of `delta`; None when the noise is not known."""
    evidence: str = ""
    """`delta` compared with the noise, in words."""
    judged_trainings: int = 0
    """How many trainings the verdict is about; 0 before there is one."""
    findings: list[str] = []
    """What the audit says about the candidate's change, a sentence each."""
    combines: list[int] = []
    """Numbers of the near misses that this experiment puts together."""
    by_hand: bool = False
    """A human changed its verdict."""
    replaced: str = ""
    """The row in results.tsv that its present row must replace; empty if there is none."""
    copies: int = 0
    """How many lines of results.tsv were equal to its row, and not its own, when that was written last."""
    proposing_seq: int = 0
    """Number of the record with which its proposal began; 0 once it is judged."""
    approved: bool = False
    queued_seq: int = 0
    """Number of the record that put it in the queue: what was approved first trains first. 0 once it is
    judged."""
    proposed_at: float | None = None
    """When its first candidate was committed: `started_at` to here is how long its agent thought."""
    agent: str = ""
    """Name of the agent that works it out, where there are several."""
    moved: int = 0
    """How many versions had trained when it was merged onto a newer incumbent, or proposed anew for one."""
    no_repair: bool = False
    """It crashed, and its agent has nothing more to try: the crash is final."""
    logged: bool = False
    """Branch, note and row of its verdict are in place."""
    usage: ev.Usage = ev.Usage()
    """What its proposal has cost, with all attempts and repairs."""

    def committed(self, event: ev.CandidateCommitted, seq: int, t: float) -> None:
        """Take in its new candidate, which is record number `seq` and was made at the time `t`."""
        if event.author == "engine" and self.phase == "judging":
            self.moved = self.versions  # it has trained, and is merged onto a newer incumbent
        self.commit, self.parent, self.author = event.commit, event.parent, event.author
        self.description, self.hypothesis = event.description, event.hypothesis
        self.queued_seq = self.queued_seq if self.phase == "queued" else seq  # a merged one keeps its place
        self.added, self.removed, self.phase = event.added, event.removed, "queued"
        self.findings, self.combines = event.findings, event.combines
        self.agent = event.agent or self.agent
        self.proposed_at = self.proposed_at or t
        self.usage += event.usage

    def take(self, verdict: ev.Judged, t: float) -> None:
        """Take in the verdict on it, which was given at the time `t`."""
        self.phase, self.commit, self.value = verdict.status, verdict.commit, verdict.value
        self.reason, self.short, self.evidence = verdict.reason, verdict.short, verdict.evidence
        self.delta, self.stderr, self.memory_gb = verdict.delta, verdict.stderr, verdict.memory_gb
        self.judged_trainings, self.copies, self.finished_at = verdict.trainings, verdict.copies, t
        self.proposing_seq = self.queued_seq = 0

    def row_changes(self) -> None:
        """Remember the row that results.tsv has now: another one is to replace it."""
        self.replaced = self.row if self.logged else self.replaced
        self.logged = False

    @property
    def judged(self) -> bool:
        """It has a verdict, and so a row in results.tsv."""
        return self.phase in ("keep", "discard", "crash")

    @property
    def rank(self) -> int:
        """Which candidates train sooner: 0 what a human put first, then what has trained already, winners
        before repaired crashes, then the others."""
        if self.queued_seq < 0:
            return 0
        if self.phase == "judging" or self.moved:
            return 1
        return 2 if self.trainings else 3

    @property
    def seeds(self) -> set[int]:
        """The seeds at which its commit has trained, or trains now."""
        return {t.seed for t in self.trainings if t.commit == self.commit}

    @property
    def versions(self) -> int:
        """How many versions of it have trained."""
        return len({t.commit for t in self.trainings})

    @property
    def last_training(self) -> Training | None:
        return self.trainings[-1] if self.trainings else None

    @property
    def last_ended(self) -> Training | None:
        """Its last training that has ended, whether well or not."""
        return next((t for t in reversed(self.trainings) if t.finished), None)

    @property
    def values(self) -> list[float]:
        """The metric of each finished training of its commit; trainings from before a repair do not count."""
        return [
            t.value
            for t in self.trainings
            if t.commit == self.commit and t.outcome == "finished" and t.value is not None
        ]

    @property
    def row(self) -> str:
        """Its line of results.tsv."""
        return format_row(self.commit, self.value, self.memory_gb, self.phase, self.description)


Model = tuple[int, int]
"""A model that a training has saved: the numbers of its experiment and of its training."""


def worth_keeping(
    saved: list[Model], experiments: list[Experiment], incumbent: int | None, most: int, *, highest: bool
) -> list[Model]:
    """Which of the saved models are kept: the incumbent's, and those of the best `most` other experiments.

    Only experiments that were kept count, best first by their values; `highest` says that a high value is a
    good one. Of an experiment with several models the one of its best training is kept, of equal ones the
    first. An experiment without a verdict keeps all.
    """
    sign = -1.0 if highest else 1.0
    best: dict[int, tuple[float, int]] = {}
    for n, number in saved:
        e = experiments[n - 1]
        for t in e.trainings:
            if e.phase == "keep" and t.number == number and t.commit == e.commit and t.value is not None:
                best[n] = min(best.get(n, (math.inf, 0)), (sign * t.value, number))
    others = [n for n in best if n != incumbent]
    others.sort(key=lambda n: (sign * (experiments[n - 1].value or 0.0), n))
    stay = {(n, best[n][1]) for n in best if n == incumbent or n in others[:most]}
    return [model for model in saved if model in stay or not experiments[model[0] - 1].judged]


def per_hour(experiments: list[Experiment], now: float) -> float | None:
    """Experiments an hour over the last ten that were judged or rejected; None before the second one.

    When none has ended for half an hour, the wait since then counts too.
    """
    ends = [e.finished_at for e in experiments[-30:] if e.finished_at is not None][-11:]
    if len(ends) < 2 or ends[-1] <= ends[0]:
        return None
    last = max(now, ends[-1]) if now - ends[-1] > 1800 else ends[-1]
    return (len(ends) - 1) * 3600 / (last - ends[0])


def lineage(experiments: list[Experiment], commit: str) -> list[Experiment]:
    """The keeps from the unchanged code to the one with this commit, the oldest first.

    The parent of an experiment is the commit that it changes, so the way back follows the parents.
    """
    keeps = {e.commit: e for e in experiments if e.phase == "keep"}
    found: list[Experiment] = []
    at = keeps.get(commit)
    while at is not None and at not in found:
        found.append(at)
        at = keeps.get(at.parent)
    return found[::-1]


def format_row(commit: str, value: float | None, memory_gb: float, status: str, description: str) -> str:
    """A line of results.tsv without its newline. A value of None is written as 0.000000; tabs and newlines
    become spaces."""
    words = " ".join(clean(description).split())
    return f"{commit[:7]}\t{0.0 if value is None else value:.6f}\t{memory_gb:.1f}\t{status}\t{words}"

"""What is next, as data: `agenda(state, rules, seats, now) -> steps`. Pure.

The engine does these steps, one task for each, and asks again whenever the state has changed. A step stays on
the agenda until the events it records take it off; a pause hides the steps that would start something new. So
an engine that was killed in the middle of a step finds it there again. That is all there is to a restart:
replay the journal, then do what the agenda says.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from loop.judging import limits, verdict
from loop.state import BY_HAND, Experiment, RunState

FIRST_SEED = 1337
"""Seed of every experiment's first training: candidates are compared at the same seed."""


class Rules(Struct, frozen=True):
    """What the human has chosen about the loop."""

    judging: verdict.Rules = verdict.Rules()
    ahead: int = 1
    """How many candidates may wait for a seat, or for approval, besides those in training."""
    proposers: int = 1
    """How many conversations with agents may go on at once, repairs included. No setting changes it yet."""
    repairs: int = 2
    """How often a crashed candidate may be given back to its agent."""
    stop_at_limit: bool = False
    """A reached limit ends the engine; otherwise it pauses."""


class Step(Struct, frozen=True, tag_field="step"):
    """Base of all steps. The engine does one step of a `key` at a time."""

    @property
    def key(self) -> tuple[str, int]:
        return type(self).__name__, 0


class OfExperiment(Step, frozen=True):
    """Base of the steps that are about one experiment."""

    n: int

    @property
    def key(self) -> tuple[str, int]:
        return type(self).__name__, self.n


class StartBaseline(OfExperiment, frozen=True):
    """Make the unchanged code experiment `n`: every later number is measured against it."""


class Propose(OfExperiment, frozen=True):
    """Let the agent work out experiment `n`."""


class Repair(OfExperiment, frozen=True):
    """Ask the agent to mend experiment `n`, which crashed."""

    reason: str


class AskApproval(OfExperiment, frozen=True):
    """Candidate `n` has to wait for the human."""


class SkipApproval(OfExperiment, frozen=True):
    """Candidate `n` waits for the human, but approval mode is off by now: let it train."""


class CarryOver(OfExperiment, frozen=True):
    """Merge candidate `n` onto the incumbent, which has changed since `n` was proposed."""


class Train(OfExperiment, frozen=True):
    """Training number `training` of experiment `n`: start it, or follow it if it is under way."""

    training: int
    seed: int
    seat: int
    why: str = ""

    @property
    def key(self) -> tuple[str, int]:
        return "Train", self.seat  # a seat has one training at a time


class Judge(OfExperiment, frozen=True):
    """Give the verdict on experiment `n`."""


class WriteRow(OfExperiment, frozen=True):
    """Write the verdict on experiment `n` down outside the journal: branch, git note, row of results.tsv."""


class Pause(Step, frozen=True):
    """Start nothing new until the human says so."""

    reason: str


class Stop(Step, frozen=True):
    """End once what is under way has ended."""

    reason: str


def agenda(state: RunState, rules: Rules, seats: int, now: float) -> list[Step]:
    """Everything to be done now. The engine starts all of it, in this order: an idle seat costs most.

    `seats` is how many trainings may run at once, `now` the time in seconds since the epoch. The same state
    gives the same agenda, whether it has grown event by event or was replayed from the journal.
    """
    halt = list(_halt(state, rules, now))
    may_start = state.paused is None and state.stopping is None and not halt
    judge = list(_next_verdict(state, rules))
    # A verdict takes milliseconds and may change the incumbent: nothing new trains before it.
    start = list(_free_seats(state, rules, seats)) if may_start and not judge else []
    return [
        *halt,
        *(Train(t.n, t.training, t.seed, t.seat, t.why) for t in state.under_way),
        *judge,
        *_approvals(state),
        *start,
        *_rows(state, after_seats=bool(start)),
        *(_proposals(state, rules) if may_start else ()),
    ]


# --- limits ---


def _halt(state: RunState, rules: Rules, now: float) -> Iterator[Step]:
    """A limit that is reached ends or pauses the run."""
    halted = state.paused is not None or state.stopping is not None
    if not halted and (reason := limits.reached(state, now)):
        yield Stop(reason) if rules.stop_at_limit else Pause(reason)


def _enough(state: RunState) -> bool:
    """The experiments with a verdict and the open ones together reach the limit."""
    most = state.limits.max_experiments
    return most is not None and state.rows + len(state.open) >= most


# --- proposing ---


def _proposals(state: RunState, rules: Rules) -> Iterator[Step]:
    """What agents do: proposals under way first, then repairs, then a new proposal; at most `proposers`."""
    under_way = sorted(state.in_phase("proposing"), key=lambda e: e.proposing_seq)
    if state.incumbent is None:
        if len(state.open) == len(under_way):  # nothing is open, or only a baseline that a kill interrupted
            yield StartBaseline(under_way[0].n if under_way else len(state.experiments) + 1)
        return
    steps: list[Step] = [Propose(e.n) for e in under_way]
    for e in state.in_phase("judging"):
        if _repairable(state, e, rules):
            crash = verdict.judge(state, e, rules.judging)
            steps.append(Repair(e.n, crash.reason))
    ready = len(state.in_phase("proposing", "waiting", "queued"))
    if ready < rules.ahead and not _enough(state):
        steps.append(Propose(len(state.experiments) + 1))
    yield from steps[: rules.proposers]


# --- training ---


def _approvals(state: RunState) -> Iterator[Step]:
    """Candidates that have to wait for the human, and those that wait though nobody asks for it any more."""
    if state.stopping is not None:
        return
    for e in state.in_phase("waiting", "queued"):
        if e.phase == "waiting" and not state.approval:
            yield SkipApproval(e.n)
        elif e.phase == "queued" and _needs_approval(state, e):
            yield AskApproval(e.n)


def _free_seats(state: RunState, rules: Rules, seats: int) -> Iterator[Step]:
    """What the free seats do next: a training, or what has to come before it (an old row, a merge)."""
    taken = {started.seat for started in state.under_way}
    free = [seat for seat in range(seats) if seat not in taken]
    chosen = set[int]()
    for e, why in _wanted(state, rules):
        if not free:
            return
        if e.n in chosen:
            continue
        chosen.add(e.n)
        seat = free.pop(0)
        if e.n in state.rows_due:  # its old row must be written before another training changes it
            yield WriteRow(e.n)
        elif not e.judged and e.phase == "queued" and e.parent != state.incumbent_commit:
            yield CarryOver(e.n)
        else:
            number = len(e.trainings) + 1
            yield Train(e.n, number, FIRST_SEED + number - 1, seat, why)


def _needs_approval(state: RunState, e: Experiment) -> bool:
    return state.approval and not e.approved and e.commit != state.base


def _wanted(state: RunState, rules: Rules) -> Iterator[tuple[Experiment, str]]:
    """Experiments to train, in the order in which free seats take them, and why they train again."""
    yield from _baseline_again(state, rules)
    for n in state.reruns_asked:
        if not state.trains(n):
            yield state.experiment(n), BY_HAND
    for e in state.in_phase("judging"):
        found = None if _repairable(state, e, rules) else verdict.judge(state, e, rules.judging)
        if isinstance(found, verdict.Rerun) and not state.trains(found.n):
            yield state.experiment(found.n), found.reason
    for e in state.queue:
        if e.phase == "queued" and not _needs_approval(state, e):
            yield e, ""


def _baseline_again(state: RunState, rules: Rules) -> Iterator[tuple[Experiment, str]]:
    """The next missing training of the baseline, while it is the incumbent: these measure the noise."""
    incumbent = state.experiment(state.incumbent) if state.incumbent else None
    wanted = rules.judging.baseline_runs
    if incumbent is None or incumbent.commit != state.base or len(incumbent.trainings) >= wanted:
        return
    if not state.trains(incumbent.n):
        number = len(incumbent.trainings) + 1
        yield incumbent, f"training {number} of {wanted} of the baseline, to measure the noise"


# --- judging and logging ---


def _next_verdict(state: RunState, rules: Rules) -> Iterator[Step]:
    """At most one verdict at a time: a keep changes what all others are compared with."""
    for e in state.in_phase("judging"):
        if _repairable(state, e, rules) and state.stopping is None:
            continue  # it may be mended, so it gets no verdict yet; an engine that is to end mends nothing
        if isinstance(verdict.judge(state, e, rules.judging), verdict.Verdict):
            yield Judge(e.n)
            return


def _repairable(state: RunState, e: Experiment, rules: Rules) -> bool:
    """It crashed, and its agent may try to mend it."""
    if e.no_repair or e.commit == state.base:
        return False
    judged = verdict.judge(state, e, rules.judging)
    crashed = isinstance(judged, verdict.Verdict) and judged.status == "crash"
    return crashed and verdict.attempts(e) <= rules.repairs


def _rows(state: RunState, *, after_seats: bool) -> Iterator[Step]:
    """The next verdict to write down; `after_seats`: free seats still have to start something.

    Nothing waits for a row, so trainings start first. But an experiment that trains now needs its row before
    that training ends, because the result changes what the row says.
    """
    for n in state.rows_due:
        if not after_seats or state.trains(n):
            yield WriteRow(n)
            return

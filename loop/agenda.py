"""What is next, as data: `agenda(state, rules, seats, now) -> steps`. Pure.

The engine does these steps, one task for each, and asks again whenever the state has changed. A step stays on
the agenda until the events it records take it off; a pause hides the steps that would start something new. So
an engine that was killed in the middle of a step finds it there again. That is all there is to a restart:
replay the journal, then do what the agenda says.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

from msgspec import Struct

from loop.judging import limits, staffing, verdict
from loop.judging.history import is_stale
from loop.state import BY_HAND, Experiment, RunState

FIRST_SEED = 1337
"""Seed of the first training of every candidate: all are compared at the same seed."""
AT_ONCE = 4
"""With so many seats or more, the unchanged code trains this often at the start, all at once."""


class Rules(Struct, frozen=True):
    """What the human has chosen about the loop."""

    judging: verdict.Rules = verdict.Rules()
    ahead: int = 1
    """How many candidates may wait for a seat, or for approval, besides those in training. With several
    conversations at once it is at least two more than those."""
    proposers: int = 1
    """How many conversations with agents may go on at once, repairs included; 0: what the seats need."""
    filler: str = ""
    """Name of an agent that needs no time to think: it proposes when a seat would wait for the others."""
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
    """Let an agent work out experiment `n`."""

    agent: str = ""
    """Which one, where that is decided: a seat waits for it."""


class Repair(OfExperiment, frozen=True):
    """Ask the agent to mend experiment `n`, which crashed."""

    reason: str


class Answer(OfExperiment, frozen=True):
    """Let an agent answer the human's question that came with record number `n`."""


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
    ended = [_look(state, e, rules) for e in state.in_phase("judging")]
    judge = list(_next_verdict(state, ended))
    # A verdict takes milliseconds and may change the incumbent: nothing new trains before it.
    start = list(_free_seats(state, rules, ended, seats)) if may_start and not judge else []
    return [
        *halt,
        *(Train(t.n, t.training, t.seed, t.seat, t.why) for t in state.under_way),
        *judge,
        *_approvals(state),
        *start,
        *_rows(state, start),
        *(Answer(q.id) for q in state.questions if state.stopping is None and state.experiments),
        *(_proposals(state, rules, ended, seats) if may_start else ()),
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
    return most is not None and len(state.experiments) >= most and state.rows + len(state.open) >= most


# --- proposing ---


def _proposals(state: RunState, rules: Rules, ended: list[_Ended], seats: int) -> Iterator[Step]:
    """What agents do: proposals under way first, then repairs, then a new proposal; at most `proposers`."""
    under_way = sorted(state.in_phase("proposing"), key=lambda e: e.proposing_seq)
    if state.incumbent is None:
        if len(state.open) == len(under_way):  # nothing is open, or only a baseline that a kill interrupted
            yield StartBaseline(under_way[0].n if under_way else len(state.experiments) + 1)
        return
    steps: list[Step] = [Propose(e.n) for e in under_way]
    steps += [Repair(x.e.n, x.crash) for x in ended if x.repairable]
    most = at_once(state, rules, seats)
    ahead = rules.ahead if seats == most == 1 else max(rules.ahead, most + 2)
    if len(state.in_phase("proposing", "waiting", "queued")) < ahead and not _enough(state):
        steps.append(Propose(len(state.experiments) + 1))
    yield from (steps := steps[:most])
    filling = _fill(state, rules) if len(state.under_way) < seats else None
    if filling and all(step.key != filling.key for step in steps):
        yield filling


def _fill(state: RunState, rules: Rules) -> Propose | None:
    """A quick proposal for a seat that has nothing to train while slower agents think."""
    thinking = state.in_phase("proposing")
    if not (rules.filler and thinking) or state.in_phase("queued", "waiting", "judging") or _enough(state):
        return None
    own = [e.n for e in thinking if e.agent == rules.filler]
    return Propose(own[0] if own else len(state.experiments) + 1, rules.filler)


def at_once(state: RunState, rules: Rules, seats: int) -> int:
    """How many conversations with agents may go on at once now."""
    return min(rules.proposers or staffing.proposers(state, seats), staffing.affordable(state))


# --- training ---


class _Wish(Struct, frozen=True):
    """An experiment that wants a seat. Its `number` is 0 where it has to be carried over first."""

    e: Experiment
    number: int = 0
    seed: int = 0
    why: str = ""


def _approvals(state: RunState) -> Iterator[Step]:
    """Candidates that have to wait for the human, and those that wait though nobody asks for it any more."""
    if state.stopping is not None:
        return
    for e in state.in_phase("waiting", "queued"):
        if e.phase == "waiting" and not state.approval:
            yield SkipApproval(e.n)
        elif e.phase == "queued" and _needs_approval(state, e):
            yield AskApproval(e.n)


def _free_seats(state: RunState, rules: Rules, ended: list[_Ended], seats: int) -> Iterator[Step]:
    """What the free seats do next: a training, or what has to come before it (an old row, a merge).

    An engine that goes on with fewer seats than an earlier one starts nothing on seats that it does not have,
    and nothing at all before enough of the trainings under way have ended.
    """
    taken = {started.seat for started in state.under_way}
    free = [seat for seat in range(seats) if seat not in taken][: max(0, seats - len(taken))]
    chosen, first = set[tuple[int, int]](), set[int]()
    for wish in _wishes(state, rules, ended, seats):
        if not free:
            return
        e = wish.e
        if (e.n, wish.number) in chosen:
            continue
        chosen.add((e.n, wish.number))
        seat = free.pop(0)
        if wish.number and e.n not in state.rows_due:
            yield Train(e.n, wish.number, wish.seed, seat, wish.why)
        elif e.n not in first:
            first.add(e.n)
            # An old row must be written before another training changes it.
            yield CarryOver(e.n) if not wish.number else WriteRow(e.n)


def _needs_approval(state: RunState, e: Experiment) -> bool:
    return state.approval and not e.approved and e.commit != state.base


def _wishes(state: RunState, rules: Rules, ended: list[_Ended], seats: int) -> Iterator[_Wish]:
    """Who wants a seat, in the order in which free seats serve them."""
    yield from _baseline(state, rules, seats)
    for n in state.reruns_asked:
        if not state.trains(n):
            yield _next_training(state.experiment(n), why=BY_HAND)
    for x in ended:
        if isinstance(x.found, verdict.Rerun) and not x.stale:
            yield from _rerun(state, x.e, x.found, seats)
    queue = [e for e in state.queue if e.phase == "queued" and not _needs_approval(state, e)]
    for e in sorted([*(x.e for x in ended if x.must_move), *queue], key=lambda e: e.rank):
        yield _Wish(e) if is_stale(state, e) else _next_training(e)


def _next_training(e: Experiment, seed: int = 0, why: str = "") -> _Wish:
    """The next training of an experiment, with the next seed of its commit unless another one is given."""
    return _Wish(e, _numbers(e, 1)[0], seed or max(e.seeds, default=FIRST_SEED - 1) + 1, why)


def _numbers(e: Experiment, how_many: int) -> list[int]:
    """The first numbers that no training of the experiment has."""
    used = {t.number for t in e.trainings}
    return list(islice((number for number in count(1) if number not in used), how_many))


def _baseline(state: RunState, rules: Rules, seats: int) -> Iterator[_Wish]:
    """The missing trainings of the unchanged code, which measure the noise.

    With one seat its first one is judged before the others; with several all run at once.
    """
    numbers = [*([state.incumbent] if state.incumbent else []), *state.open]
    e = next((x for x in map(state.experiment, numbers) if x.commit == state.base), None)
    if e is None or not (e.judged or e.phase in ("queued", "training")):
        return
    wanted = max(rules.judging.baseline_runs, min(seats, AT_ONCE))
    if seats == 1 and (not e.judged or state.trains(e.n)):
        wanted = 1
    for number in _numbers(e, max(0, wanted - len(e.trainings))):
        why = f"training {number} of {wanted} of the baseline, to measure the noise" if number > 1 else ""
        yield _Wish(e, number, FIRST_SEED + number - 1, why)


def _rerun(state: RunState, e: Experiment, found: verdict.Rerun, seats: int) -> Iterator[_Wish]:
    """The training that a verdict asks for.

    Where several seats are, a candidate and the incumbent train as a pair, at the same seed and time. The
    incumbent begins: as long as the candidate waits for its seat, the state tells that the pair is begun.
    """
    again = state.experiment(found.n)
    if seats == 1 or found.n == state.incumbent:
        if not state.trains(found.n):
            yield _next_training(again, why=found.reason)
        return
    assert state.incumbent is not None
    incumbent, last = state.experiment(state.incumbent), again.trainings[-1].started_at
    partners = [t.seed for t in incumbent.trainings if t.started_at > last and t.seed not in again.seeds]
    seed = min(partners, default=0) or max(*again.seeds, *incumbent.seeds) + 1
    if not partners and not state.trains(incumbent.n):
        yield _next_training(incumbent, seed, f"beside experiment {e.n}, at the same seed")
    yield _next_training(again, seed, found.reason)


# --- judging and logging ---


class _Ended(Struct, frozen=True):
    """An experiment whose trainings have ended, and what the judge says of it."""

    e: Experiment
    found: verdict.Verdict | verdict.Rerun
    stale: bool
    """Another idea was kept while it trained, so it was compared with its own parent."""
    repairable: bool
    """It crashed, and its agent may try to mend it."""

    @property
    def must_move(self) -> bool:
        """It is better than its parent, or may be: it has to train again on top of the incumbent of now."""
        return self.stale and (isinstance(self.found, verdict.Rerun) or self.found.status == "keep")

    @property
    def crash(self) -> str:
        return self.found.reason

    @property
    def strength(self) -> tuple[bool, float]:
        """Sorts verdicts: keeps with the best evidence first, then the others."""
        if not isinstance(self.found, verdict.Verdict) or self.found.status != "keep":
            return True, 0.0
        return False, -abs(self.found.delta or 0.0) / (self.found.stderr or 1.0)


def _look(state: RunState, e: Experiment, rules: Rules) -> _Ended:
    found = verdict.judge(state, e, rules.judging)
    crashed = isinstance(found, verdict.Verdict) and found.status == "crash"
    may = not (e.no_repair or e.commit == state.base) and verdict.attempts(e) <= rules.repairs
    return _Ended(e, found, is_stale(state, e), crashed and may)


def _next_verdict(state: RunState, ended: list[_Ended]) -> Iterator[Step]:
    """At most one verdict at a time, the best keep first: it changes what all others are compared with.

    What may be mended gets no verdict yet; but an engine that is to end mends nothing.
    """
    ready = [
        x
        for x in ended
        if isinstance(x.found, verdict.Verdict)
        and not x.must_move
        and (state.stopping is not None or not x.repairable)
    ]
    if ready:
        yield Judge(min(ready, key=lambda x: x.strength).e.n)


def _rows(state: RunState, start: list[Step]) -> Iterator[Step]:
    """The next verdict to write down. `start` is what free seats do, which may be to write one themselves.

    Nothing waits for a row, so trainings start first. But an experiment that trains now needs its row before
    that training ends, because the result changes what the row says.
    """
    for n in state.rows_due:
        if (not start or state.trains(n)) and WriteRow(n) not in start:
            yield WriteRow(n)
            return

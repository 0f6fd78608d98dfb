"""What is next: for states that a run goes through, and for any run at all."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import agenda
from loop import events as ev
from loop.agenda import Judge, Pause, Propose, Repair, Rules, StartBaseline, Step, Stop, Train, WriteRow
from loop.judging import verdict
from loop.state import fold
from tests.loop.simulated import BASE, Plan, Simulation

ONCE = Rules(judging=verdict.Rules(rule="improved", baseline_runs=1), stop_at_limit=True)
numbers = st.frozensets(st.integers(2, 8))
plans = st.builds(
    Plan,
    crashes=numbers,
    refused=numbers,
    unmendable=numbers,
    conflicts=numbers,
    lost=st.frozensets(st.integers(1, 8)),
)
judging = st.builds(
    verdict.Rules, rule=st.sampled_from(["improved", "confirmed"]), baseline_runs=st.integers(1, 3)
)
rules = st.builds(
    Rules, judging=judging, ahead=st.integers(1, 4), proposers=st.integers(1, 3), repairs=st.integers(0, 2),
    stop_at_limit=st.just(True),
)  # fmt: skip


def simulation(plan: Plan = Plan(), rules: Rules = ONCE, seats: int = 1, rows: int = 5) -> Simulation:  # noqa: B008
    return Simulation(plan, rules, seats, ev.Limits(max_experiments=rows))


def after(*events: ev.DurableEvent, rules: Rules = ONCE, seats: int = 1) -> list[Step]:
    """The agenda of a run whose baseline is kept and logged, after these events."""
    found = simulation(rules=rules, seats=seats, rows=100)
    for event in (*BASELINE, *events):
        found.record(event)
    return found.agenda()


def trained(n: int, value: float, number: int = 1, commit: str = "") -> list[ev.DurableEvent]:
    return [
        ev.TrainingStarted(n, number, commit or f"c{n}", seed=1337, budget_s=1.0),
        ev.TrainingFinished(n, number, "finished", value=value),
    ]


def proposed(n: int, parent: str = BASE) -> list[ev.DurableEvent]:
    return [ev.ExperimentStarted(n, parent), ev.CandidateCommitted(n, f"c{n}", parent, f"idea {n}")]


BASELINE: list[ev.DurableEvent] = [
    ev.ExperimentStarted(1, BASE),
    ev.CandidateCommitted(1, BASE, BASE, "baseline", author="engine"),
    *trained(1, 2.0, commit=BASE),
    ev.Judged(1, "keep", BASE, 2.0, 0.0, "baseline"),
    ev.Logged(1),
]


def test_a_run_begins_with_the_unchanged_code() -> None:
    assert simulation().agenda() == [StartBaseline(1)]


def test_with_a_baseline_the_agent_is_asked() -> None:
    assert after() == [Propose(2)]


def test_a_candidate_trains_and_the_next_one_is_proposed_meanwhile() -> None:
    assert after(*proposed(2)) == [Train(2, 1, 1337, 0)]
    assert after(*proposed(2), trained(2, 1.0)[0]) == [Train(2, 1, 1337, 0), Propose(3)]


def test_a_verdict_comes_before_the_next_training_and_its_row_after_that_has_started() -> None:
    ended = [*proposed(2), trained(2, 1.0)[0], *proposed(3), trained(2, 1.0)[1]]
    assert after(*ended) == [Judge(2)]
    kept = [*ended, ev.Judged(2, "keep", "c2", 1.0, 0.0, "better")]
    assert after(*kept) == [agenda.CarryOver(3)]
    carried = [*kept, ev.CandidateCommitted(3, "c3+", "c2", "idea 3", author="engine")]
    assert after(*carried) == [Train(3, 1, 1337, 0)]
    started = ev.TrainingStarted(3, 1, "c3+", seed=1337, budget_s=1.0)
    assert after(*carried, started) == [Train(3, 1, 1337, 0), WriteRow(2), Propose(4)]


def test_several_seats_train_several_candidates() -> None:
    busy = Rules(judging=ONCE.judging, ahead=4)
    measured = trained(1, 2.0, 2, commit=BASE)
    assert after(*measured, *proposed(2), *proposed(3), rules=busy, seats=2) == [
        Train(2, 1, 1337, 0), Train(3, 1, 1337, 1), Propose(4),
    ]  # fmt: skip


def test_a_crash_goes_to_the_agent_and_is_judged_when_it_has_no_repair() -> None:
    crash = [*proposed(2), trained(2, 1.0)[0], ev.TrainingFinished(2, 1, "crashed", "it broke")]
    assert after(*crash) == [Repair(2, "it broke")]
    assert after(*crash, ev.RepairGivenUp(2, "no idea")) == [Judge(2), Propose(3)]
    assert after(*crash, rules=Rules(judging=ONCE.judging, repairs=0)) == [Judge(2), Propose(3)]


def test_a_paused_run_finishes_what_it_began_and_starts_nothing() -> None:
    begun = [*proposed(2), trained(2, 1.0)[0], ev.Paused("by hand")]
    assert after(*begun) == [Train(2, 1, 1337, 0)]
    assert after(*begun, trained(2, 1.0)[1]) == [Judge(2)]
    assert after(*proposed(2), ev.Paused("by hand")) == []
    assert after(*proposed(2), ev.Paused("by hand"), ev.Resumed()) == [Train(2, 1, 1337, 0)]


def test_a_repaired_crash_trains_before_a_fresh_candidate_and_stands_before_it_in_the_queue() -> None:
    crash = [*proposed(3), trained(3, 1.0)[0], ev.TrainingFinished(3, 1, "crashed", "it broke")]
    repaired = ev.CandidateCommitted(3, "c3+", BASE, "idea 3, mended")
    found = simulation(rows=100)
    for event in (*BASELINE, ev.ExperimentStarted(2, BASE), *crash, *proposed(2)[1:], repaired):
        found.record(event)
    assert [e.n for e in found.state.queue] == [3, 2]
    assert [step.n for step in found.agenda() if isinstance(step, Train)] == [3]


def test_an_engine_that_is_to_end_judges_a_crash_instead_of_repairing_it() -> None:
    crash = [*proposed(2), trained(2, 1.0)[0], ev.TrainingFinished(2, 1, "crashed", "it broke")]
    assert after(*crash, ev.EngineStopping("by hand")) == [Judge(2)]


def test_in_approval_mode_a_candidate_waits() -> None:
    on = ev.ModeSet(True)
    assert after(on, *proposed(2)) == [agenda.AskApproval(2)]
    assert after(on, *proposed(2), ev.ApprovalRequested(2)) == []
    assert after(on, *proposed(2), ev.ApprovalRequested(2), ev.Approved(2)) == [Train(2, 1, 1337, 0)]
    waived = after(on, *proposed(2), ev.ApprovalRequested(2), ev.ModeSet(False))
    assert waived == [agenda.SkipApproval(2)]


def test_a_candidate_approved_a_hundred_experiments_later_is_trained() -> None:
    later = [event for n in range(3, 103) for event in (*proposed(n), ev.Rejected(n, "no"))]
    steps = after(ev.ModeSet(True), *proposed(2), ev.ApprovalRequested(2), *later, ev.Approved(2))
    assert steps[0] == Train(2, 1, 1337, 0)


def test_a_limit_ends_or_pauses_the_run() -> None:
    reached = ev.LimitsSet(ev.Limits(max_experiments=1))
    assert after(reached)[0] == Stop("limit reached: 1 experiment")
    pausing = Rules(judging=ONCE.judging)
    assert after(reached, rules=pausing)[0] == Pause("limit reached: 1 experiment")


def test_at_a_limit_nothing_new_is_begun_in_the_same_breath() -> None:
    """The pause is not recorded yet; a proposal that starts now would be paid for."""
    pausing = Rules(judging=ONCE.judging)
    assert after(
        ev.LimitsSet(ev.Limits(max_cost=0.1)), ev.Spent(1, ev.Usage(dollars=0.2)), rules=pausing
    ) == [Pause("limit reached: $0.20 spent of $0.10")]


def test_crashes_in_a_row_pause_again_only_after_another_one() -> None:
    limits = ev.LimitsSet(ev.Limits(max_crashes=1))
    crash = [*proposed(2), ev.Judged(2, "crash", "c2", None, 0.0, "it broke"), ev.Logged(2), limits]
    pausing = Rules(judging=ONCE.judging)
    assert after(*crash, rules=pausing)[0] == Pause("1 crash in a row, the last: it broke")
    assert after(*crash, ev.Paused("x", "engine"), ev.Resumed(), rules=pausing) == [Propose(3)]


def test_a_training_that_was_lost_starts_again_with_the_same_seed() -> None:
    begun = [*proposed(2), trained(2, 1.0)[0]]
    assert after(*begun, ev.TrainingLost(2, 1, 1, "gone"))[0] == Train(2, 1, 1337, 0)


def test_the_baseline_trains_again_before_anything_new_and_after_its_row() -> None:
    twice = Rules(judging=verdict.Rules(baseline_runs=2))
    words = "training 2 of 2 of the baseline, to measure the noise"
    assert after(rules=twice)[0] == Train(1, 2, 1338, 0, words)
    found = simulation(rules=twice, rows=100)
    for event in BASELINE[:-1]:
        found.record(event)
    assert found.agenda() == [WriteRow(1), Propose(2)]


def test_a_human_may_have_something_trained_again() -> None:
    assert after(ev.RerunAsked(1), *proposed(2))[0] == Train(1, 2, 1338, 0, "asked for by hand")


@given(plans, rules, st.integers(1, 4), st.booleans(), st.randoms(use_true_random=False))
def test_the_agenda_is_a_function_of_the_journal(
    plan: Plan, rules: Rules, seats: int, approval: bool, chance: random.Random
) -> None:
    """For any prefix of any journal, the replayed state has the agenda that the live one had."""
    run = Simulation(plan, rules, seats, ev.Limits(max_experiments=6, max_crashes=None), approval)
    agendas = {len(run.records): run.agenda()}
    for _ in range(400):
        if not run.tick(chance):
            break
        agendas[len(run.records)] = run.agenda()
        if run.state.waiting and chance.random() < 0.5:
            run.record(ev.Approved(run.state.waiting.n))
            agendas[len(run.records)] = run.agenda()
    for length in chance.sample(sorted(agendas), min(25, len(agendas))):
        state = fold(run.records[:length])
        assert agenda.agenda(state, rules, seats, now=1e9) == agendas[length]


@given(plans, rules, st.integers(1, 4), st.randoms(use_true_random=False))
def test_no_step_stands_on_an_agenda_twice_and_no_seat_is_taken_twice(
    plan: Plan, rules: Rules, seats: int, chance: random.Random
) -> None:
    run = Simulation(plan, rules, seats, ev.Limits(max_experiments=6, max_crashes=None))
    for _ in range(400):
        steps = run.agenda()
        assert len({step.key for step in steps}) == len(steps)
        trainings = [(step.n, step.training) for step in steps if isinstance(step, Train)]
        assert len(set(trainings)) == len(trainings) <= seats
        taken = [started.seat for started in run.state.under_way]
        assert len(set(taken)) == len(taken)
        if not run.tick(chance):
            break
    else:
        pytest.fail("the run did not come to its end")


@given(plans, st.integers(0, 2), st.integers(1, 400), st.randoms(use_true_random=False))
def test_a_kill_anywhere_ends_in_the_same_rows(
    plan: Plan, repairs: int, every: int, chance: random.Random
) -> None:
    """The engine dies after every so many events; what it leaves equals what an undisturbed one leaves."""
    rules = Rules(judging=ONCE.judging, repairs=repairs, stop_at_limit=True)
    runs = [Simulation(plan, rules, 1, ev.Limits(max_experiments=6, max_crashes=None)) for _ in range(2)]
    for run, kills in zip(runs, (False, True), strict=True):
        for _ in range(3000):
            before = len(run.records)
            if not run.tick(chance):
                break
            if kills and len(run.records) > before and len(run.records) % every == 0 and every > 2:
                run.restart()
    assert runs[0].rows() == runs[1].rows()
    assert len(runs[0].rows()) == 6


def test_search_fills_a_seat_that_waits_for_a_slower_agent() -> None:
    team = Rules(judging=ONCE.judging, filler="search")
    slow = ev.ExperimentStarted(2, BASE, agent="claude")
    quick = ev.ExperimentStarted(3, BASE, agent="search")
    assert after(slow, rules=team) == [Propose(2), Propose(3, "search")]
    assert after(slow, quick, rules=team) == [Propose(2), Propose(3, "search")]
    assert after(slow) == [Propose(2)], "there is nobody to fill seats"
    assert after(ev.ExperimentStarted(2, BASE, agent="search"), rules=team) == [Propose(2)]
    trains = [*proposed(2), trained(2, 1.0)[0], ev.ExperimentStarted(3, BASE, agent="claude")]
    assert after(*trains, rules=team) == [Train(2, 1, 1337, 0), Propose(3)], "no seat is idle"

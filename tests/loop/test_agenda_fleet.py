"""Many seats: what must hold in any run, whatever happens first."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loop import agenda
from loop import events as ev
from loop.agenda import Judge, Propose, Rules, Train
from loop.judging import verdict
from loop.state import RunState
from tests.loop.simulated import BASE, Plan, Simulation
from tests.loop.test_agenda import BASELINE, proposed, rules, trained

ROWS = 9
FOUR = [event for number in (2, 3, 4) for event in trained(1, 2.0, number, BASE)]
"""The unchanged code trains three times more: with four seats it does so before anything else."""
IMPROVED = Rules(judging=verdict.Rules(rule="improved", baseline_runs=1), stop_at_limit=True)
numbers = st.frozensets(st.integers(2, 14))


def after(*events: ev.DurableEvent, rules: Rules = IMPROVED, seats: int = 4) -> list[agenda.Step]:
    """The agenda of a run whose baseline has trained four times, after these events."""
    run = Simulation(Plan(), rules, seats, ev.Limits(max_experiments=100))
    for event in (*BASELINE, *FOUR, ev.Logged(1), *events):
        run.record(event)
    return [step for step in run.agenda() if not isinstance(step, Propose | agenda.WriteRow)]


def started(n: int, seat: int, number: int = 1, seed: int = 1337, commit: str = "") -> ev.TrainingStarted:
    return ev.TrainingStarted(n, number, commit or f"c{n}", seed, 1.0, seat)


def ended(n: int, value: float, number: int = 1) -> ev.TrainingFinished:
    return ev.TrainingFinished(n, number, "finished", value=value)


BOTH: list[ev.DurableEvent] = [*proposed(2), *proposed(3), started(2, 0), started(3, 1)]
KEPT: list[ev.DurableEvent] = [*BOTH, ended(2, 1.0), ev.Judged(2, "keep", "c2", 1.0, 0.0, "better")]
"""Experiment 2 is kept while 3, proposed against the baseline, trains."""


def test_the_unchanged_code_trains_at_once_on_up_to_four_seats() -> None:
    run = Simulation(Plan(), IMPROVED, 8, ev.Limits())
    for event in BASELINE[:2]:
        run.record(event)
    assert [(s.training, s.seed, s.seat) for s in run.agenda() if isinstance(s, Train)] == [
        (1, 1337, 0), (2, 1338, 1), (3, 1339, 2), (4, 1340, 3),
    ]  # fmt: skip
    run.record(ev.TrainingStarted(1, 3, BASE, 1339, 1.0, seat=2))  # the others' starts take longer
    assert {(s.training, s.seed, s.seat) for s in run.agenda() if isinstance(s, Train)} == {
        (1, 1337, 0), (2, 1338, 1), (3, 1339, 2), (4, 1340, 3),
    }  # fmt: skip


def test_a_stale_result_that_is_worse_than_its_own_parent_is_final() -> None:
    assert after(*KEPT, ended(3, 2.5)) == [Judge(3)]


def test_a_stale_result_that_is_better_is_merged_and_trains_on_the_incumbent_before_the_queue() -> None:
    """Even one that beats the new incumbent as it is: it does not hold the change that was kept."""
    better = [*KEPT, ended(3, 0.5), *proposed(4, "c2")]
    assert after(*better)[0] == agenda.CarryOver(3)
    moved = [*better, ev.CandidateCommitted(3, "c3+", "c2", "idea 3", author="engine")]
    assert after(*moved)[:2] == [Train(3, 1 + 1, 1337, 0), Train(4, 1, 1337, 1)]
    assert after(*moved, started(3, 0, 2, commit="c3+"), ended(3, 0.9, 2))[0] == Judge(3)


def test_a_winner_that_cannot_be_merged_is_proposed_again_under_its_number_and_keeps_its_trainings() -> None:
    run = Simulation(Plan(), IMPROVED, 4, ev.Limits())
    again = ev.ExperimentStarted(3, "c2", "it changes the same lines as the new incumbent")
    for event in (*BASELINE, *FOUR, *KEPT, ended(3, 0.5), again):
        run.record(event)
    e = run.state.experiment(3)
    assert (e.phase, len(e.trainings), e.values, e.moved) == ("proposing", 1, [], 1)
    assert "Experiment 3 (idea 3) promised a gain, but it changes" in run.state.steering[-1].text
    assert Propose(3) in run.agenda()


def test_nothing_is_judged_while_it_trains_and_the_best_keep_comes_first() -> None:
    two = [*BOTH, *proposed(4), started(4, 2), ended(2, 1.8), ended(3, 1.2)]
    steps = after(*two)
    assert [step for step in steps if isinstance(step, Judge)] == [Judge(3)]
    kept = [*two, ev.Judged(3, "keep", "c3", 1.2, 0.0, "better")]
    assert agenda.CarryOver(2) in after(*kept), "what is left is compared anew"


def test_a_rerun_is_a_pair_at_one_new_seed_and_the_incumbent_begins() -> None:
    confirmed = Rules(judging=verdict.Rules(combine=0))
    values = [ended(1, value, number) for number, value in enumerate((1.0, 1.001, 0.999, 1.0005), 1)]
    run = Simulation(Plan(), confirmed, 4, ev.Limits())
    trainings = [event for k in range(4) for event in (started(1, k, k + 1, 1337 + k, BASE), values[k])]
    baseline = ev.Judged(1, "keep", BASE, 1.0, 0.0, "baseline", trainings=4)
    for event in (*BASELINE[:2], *trainings, baseline, ev.Logged(1), *proposed(2), started(2, 0)):
        run.record(event)
    run.record(ended(2, 0.9975))
    pair = [step for step in run.agenda() if isinstance(step, Train)]
    assert [(s.n, s.training, s.seed, s.seat) for s in pair] == [(1, 5, 1341, 0), (2, 2, 1341, 1)]
    run.record(started(1, 0, 5, 1341, BASE))
    half = [step for step in run.agenda() if isinstance(step, Train)]
    assert [(s.n, s.training, s.seed, s.seat) for s in half] == [(1, 5, 1341, 0), (2, 2, 1341, 1)]
    run.record(ended(1, 1.0, 5))
    assert [(s.n, s.seed) for s in run.agenda() if isinstance(s, Train)] == [(2, 1341)], "half a pair is done"


def test_fewer_seats_than_before_start_nothing_before_enough_has_ended() -> None:
    busy = [event for n in (2, 3, 4, 5) for event in proposed(n)]
    busy += [started(2, 0), started(3, 2), started(4, 3)]
    assert [s.n for s in after(*busy, seats=4) if isinstance(s, Train)] == [2, 3, 4, 5]
    assert [s.n for s in after(*busy, seats=2) if isinstance(s, Train)] == [2, 3, 4]
    fewer = [*busy, ended(4, 2.5), ev.Judged(4, "discard", "c4", 2.5, 0.0, "worse"), ev.Logged(4)]
    assert [s.n for s in after(*fewer, seats=2) if isinstance(s, Train)] == [2, 3]
    assert Train(5, 1, 1337, 1) in after(*fewer, seats=3)


def test_several_conversations_go_on_while_candidates_are_few() -> None:
    run = Simulation(Plan(), Rules(judging=IMPROVED.judging, proposers=2), 4, ev.Limits())
    for event in (*BASELINE, *FOUR, ev.Logged(1), ev.ExperimentStarted(2, BASE)):
        run.record(event)
    assert run.agenda()[-2:] == [Propose(2), Propose(3)]
    run.record(ev.ExperimentStarted(3, BASE))
    assert run.agenda()[-2:] == [Propose(2), Propose(3)]
    for n in (4, 5):
        for event in proposed(n):
            run.record(event)
    assert len(run.state.in_phase("proposing", "queued")) == 4
    assert not [step for step in run.agenda() if isinstance(step, Propose) and step.n > 5]


class Fleet(RuleBasedStateMachine):
    """A run with many seats. Steps are interleaved at random; engines die and come back with other seats."""

    @initialize(
        plan=st.builds(
            Plan, crashes=numbers, refused=numbers, unmendable=numbers, conflicts=numbers, lost=numbers
        ),
        chosen=rules,
        seats=st.integers(1, 8),
    )
    def begin(self, plan: Plan, chosen: Rules, seats: int) -> None:
        self.run = Simulation(plan, chosen, seats, ev.Limits(max_experiments=ROWS, max_crashes=None))
        self.seen = 0

    @rule(seed=st.integers(0, 2**32), ticks=st.integers(1, 40))
    def goes_on(self, seed: int, ticks: int) -> None:
        chance = random.Random(seed)
        for _ in range(ticks):
            self.run.tick(chance)
            self.check()

    @rule(seats=st.integers(1, 8))
    def is_killed(self, seats: int) -> None:
        self.run.seats = seats
        self.run.restart()

    @rule()
    def is_asked_to_measure_the_incumbent_again(self) -> None:
        if self.run.state.incumbent and not self.run.state.reruns_asked:
            self.run.record(ev.RerunAsked(self.run.state.incumbent))

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "run"):
            self.check()

    def check(self) -> None:
        s = self.run.state
        self.check_keeps()
        for e in s.experiments:
            used = [(t.commit, t.seed) for t in e.trainings]
            assert len(set(used)) == len(used), "a commit trains at a seed once"
            assert e.judged or e.phase == "rejected" or e.n in s.open
        steps = self.run.agenda()
        assert len({step.key for step in steps}) == len(steps)
        verdicts = [step for step in steps if isinstance(step, Judge)]
        assert len(verdicts) <= 1
        assert not any(s.trains(step.n) for step in verdicts)
        seats = [t.seat for t in s.under_way]
        assert len(set(seats)) == len(seats)
        self.check_seats(s, steps)

    def check_keeps(self) -> None:
        """Whatever was kept since the last look was a child of the incumbent of its time."""
        records = self.run.records
        for i in range(self.seen, len(records)):
            event = records[i].event
            if isinstance(event, ev.Judged) and event.status == "keep":
                before = RunState()
                for record in records[:i]:
                    before.apply(record)
                assert before.experiment(event.n).parent == before.incumbent_commit
        self.seen = len(records)

    def check_seats(self, s: RunState, steps: list[agenda.Step]) -> None:
        """No seat is idle while something waits for one."""
        if s.paused is not None or s.stopping is not None or any(isinstance(step, Judge) for step in steps):
            return
        free = max(0, self.run.seats - len(s.under_way))
        new = [step for step in steps if isinstance(step, Train) and (step.n, step.training) not in
               {(t.n, t.training) for t in s.under_way}]  # fmt: skip
        moves = [step for step in steps if isinstance(step, agenda.CarryOver | agenda.WriteRow)]
        assert len(new) + len(moves) >= min(free, len(s.in_phase("queued"))) or s.rows >= ROWS

    def teardown(self) -> None:
        """Every run comes to its end, with all its rows."""
        if not hasattr(self, "run"):
            return
        chance = random.Random(1)
        for _ in range(20_000):
            if not self.run.tick(chance):
                break
        assert self.run.state.rows == ROWS
        self.check_keeps()


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)

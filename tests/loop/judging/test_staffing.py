"""How many conversations with agents go on at once."""

from __future__ import annotations

import pytest

from loop import events as ev
from loop.judging import staffing
from loop.state import Experiment, RunState
from tests.loop.trainings import training


def run(thinking_s: float, training_s: float, count: int = 5) -> RunState:
    """A run in which every proposal and every training took so long."""
    experiments = [
        Experiment(
            n, "c1", "discard", f"c{n}", started_at=1000.0 * n, proposed_at=1000.0 * n + thinking_s,
            trainings=(training(1, f"c{n}", n=n, started_at=0.0, finished_at=training_s),),
            usage=ev.Usage(dollars=0.1),
        )
        for n in range(1, count + 1)
    ]  # fmt: skip
    return RunState(experiments=experiments, usage=ev.Usage(dollars=0.1 * count))


@pytest.mark.parametrize(
    ("seats", "thinking_s", "wanted"), [(1, 900, 1), (8, 60, 3), (8, 5, 1), (8, 600, 8), (256, 60, 64)]
)
def test_conversations_are_as_many_as_the_seats_need(seats: int, thinking_s: float, wanted: int) -> None:
    """With 60 s of thinking and 330 s of training 8 seats never wait for three conversations."""
    assert staffing.proposers(run(thinking_s, 330.0), seats) == wanted


def test_before_anything_is_measured_a_minute_of_thinking_is_assumed() -> None:
    assert staffing.proposers(RunState(), 8) == 3
    assert staffing.thinking_s(RunState()) == 60
    assert staffing.training_s(RunState()) == pytest.approx(330)


def test_near_the_spending_limit_conversations_become_fewer() -> None:
    """They cost 0.10 each so far."""
    state = run(60.0, 330.0)
    wanted = {None: staffing.MOST, 2.5: 10, 1.1: 3, 0.7: 1, 0.5: 1}
    for most, count in wanted.items():
        state.limits = ev.Limits(max_cost=most)
        assert staffing.affordable(state) == count


def test_what_has_no_price_is_not_counted() -> None:
    state = RunState(limits=ev.Limits(max_cost=1.0))
    assert staffing.affordable(state) == staffing.MOST

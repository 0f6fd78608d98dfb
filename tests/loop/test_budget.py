"""The budget of a run: asked for, that of its first training, or what suits the machine."""

from __future__ import annotations

import pytest

from loop import budget
from loop import events as ev
from loop.config import Settings
from loop.errors import UsageError
from loop.state import RunState, fold


def ours(**values: object) -> Settings:
    return Settings(editable=["nanogpt/train.py"], **values)  # type: ignore[arg-type]


def begun(budget_s: float) -> RunState:
    """A run whose first training had this budget."""
    events: list[ev.AnyEvent] = [
        ev.RunCreated("night", "/r", "c0", "nanogpt/train.py", [], "val_bpb", "min"),
        ev.ExperimentStarted(1, "c0"),
        ev.TrainingStarted(1, 1, "c0", 1337, budget_s),
        ev.TrainingFinished(1, 1, "finished", value=1.2),
    ]
    return fold(ev.Record(1 + i, 0.0, event) for i, event in enumerate(events))


@pytest.mark.parametrize(
    ("settings", "has_gpu", "seconds"),
    [
        (ours(), False, 60),
        (ours(), True, 300),
        (ours(executor="ray"), False, 300),
        (ours(budget_s=7.0), False, 7),
        (Settings(editable=["train.py"]), False, 300),
    ],
)
def test_a_new_run_has_what_was_asked_for_or_what_suits(
    settings: Settings, has_gpu: bool, seconds: float
) -> None:
    found, why = budget.settled(settings, RunState(), has_gpu=has_gpu)
    assert found.budget_s == seconds
    assert bool(why) == (seconds == 60), why


def test_a_short_budget_that_was_asked_for_needs_no_reason() -> None:
    assert budget.settled(ours(budget_s=60.0), RunState(), has_gpu=False)[1] == ""


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_run_keeps_its_budget_wherever_it_goes_on(has_gpu: bool) -> None:
    for asked in (0.0, 20.0):
        assert budget.settled(ours(budget_s=asked), begun(20), has_gpu=has_gpu)[0].budget_s == 20


def test_before_there_is_a_number_the_budget_may_change() -> None:
    state = begun(20)
    state.experiments[0].trainings[0].finished = None
    assert budget.settled(ours(budget_s=5.0), state, has_gpu=False)[0].budget_s == 5


def test_the_reason_goes_on_with_the_run_that_nobody_gave_a_budget() -> None:
    asked, own = begun(60), begun(60)
    asked.engine = ev.EngineStarted(1, "", "search", budget_s=60)
    own.engine = ev.EngineStarted(1, "", "search", budget_s=60, budget_why="short without a GPU")
    assert budget.settled(ours(), asked, has_gpu=False)[1] == ""
    assert budget.settled(ours(), own, has_gpu=False)[1] != ""


def test_numbers_of_two_budgets_never_meet_in_one_run() -> None:
    with pytest.raises(UsageError, match=r"has 20 s, .* theirs: give --budget 20, or begin"):
        budget.settled(ours(budget_s=300.0), begun(20), has_gpu=True)


def test_the_time_out_is_at_least_the_budget_that_suits() -> None:
    with pytest.raises(UsageError, match="the time-out must be at least the budget"):
        budget.settled(ours(timeout_s=30.0), RunState(), has_gpu=False)

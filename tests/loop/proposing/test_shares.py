"""Who of several agents works next: those that gain more per hour of training get more, all get some."""

from __future__ import annotations

import pytest

from loop import events as ev
from loop.agents.search import tuning
from loop.experiment import Experiment, Training
from loop.proposing import shares
from loop.state import RunState

NAMES = ("claude", "search")


def judged(n: int, agent: str, delta: float = 0.01, hours: float = 0.1, error: float = 0.0) -> Experiment:
    phase: ev.Status = "keep" if delta < 0 else "discard"
    started = ev.TrainingStarted(n, 1, f"c{n}", seed=1, budget_s=300.0)
    ended = ev.TrainingFinished(n, 1, "finished", value=1.0)
    return Experiment(
        n, "c1", phase, f"c{n}", agent=agent, delta=delta, stderr=error,
        trainings=(Training(started, 0.0, ended, 3600 * hours),),
    )  # fmt: skip


def run(*rest: Experiment) -> RunState:
    first = Experiment(1, "c1", "keep", "c1", "baseline", author="engine")
    return RunState(base="c1", incumbent=1, experiments=[first, *rest])


def test_without_gains_the_shares_are_equal() -> None:
    assert shares.shares(run(), NAMES) == {"claude": 0.5, "search": 0.5}
    state = run(*(judged(n, "claude") for n in range(2, 9)))
    assert shares.shares(state, NAMES) == {"claude": 0.5, "search": 0.5}
    assert shares.next_agent(state, NAMES) == "search"


def test_who_gains_more_gets_more_and_all_get_some() -> None:
    rows = [judged(n, NAMES[n % 2], -0.01 if n % 2 else 0.01) for n in range(2, 32)]
    found = shares.shares(run(*rows), NAMES)
    assert found["search"] > 0.7
    assert found["claude"] >= shares.LEAST
    assert sum(found.values()) == pytest.approx(1)
    assert shares.words({"claude": 0.2, "search": 0.8}) == "claude 20%, search 80%"


def test_an_hour_counts_and_not_an_experiment() -> None:
    """The same gains in a tenth of the time are worth more."""
    rows = [judged(n, NAMES[n % 2], -0.01, hours=1.0 if n % 2 else 0.1) for n in range(2, 32)]
    found = shares.shares(run(*rows), NAMES)
    assert found["claude"] > found["search"]


def test_a_gain_counts_less_its_error_and_luck_counts_nothing() -> None:
    assert shares.gain(judged(2, "claude", -0.01, error=0.004)) == pytest.approx(0.006)
    assert shares.gain(judged(2, "claude", -0.01, error=0.04)) == 0
    assert shares.gain(judged(2, "claude", 0.01)) == 0


def test_the_agents_come_as_often_as_their_shares_say() -> None:
    state = run(*(judged(n, NAMES[n % 2], -0.01 if n % 2 else 0.01) for n in range(2, 42)))
    wanted = shares.shares(state, NAMES)
    for _ in range(shares.RECENT):
        n = len(state.experiments) + 1
        state.experiments.append(Experiment(n, "c1", agent=shares.next_agent(state, NAMES)))
    had = [e.agent for e in state.experiments[-shares.RECENT :]]
    assert had.count("search") == pytest.approx(wanted["search"] * shares.RECENT, abs=1.5)


def test_search_tunes_what_a_keep_of_another_agent_has_moved() -> None:
    state = run(*(judged(n, "claude") for n in range(2, 6)), judged(6, "claude", -0.02))
    state.incumbent = 6
    names = []
    for _ in range(4):
        n = len(state.experiments) + 1
        names.append(shares.next_agent(state, NAMES))
        state.experiments.append(Experiment(n, "c6", agent=names[-1]))
    assert names[: tuning.TUNED] == ["search"] * tuning.TUNED
    assert shares.next_agent(run(), ("claude", "gpt")) == "claude", "without search there is nobody to tune"


def test_only_search_beside_others_fills_seats() -> None:
    assert shares.filler(["claude", "search"]) == "search"
    assert shares.filler(["search"]) == ""
    assert shares.filler(["claude", "gpt"]) == ""
    assert shares.filler([]) == ""

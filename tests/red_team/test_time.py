"""Ways to learn for longer than the budget, each with a budget of seconds: none is kept.

`make test` tries every fifth of them and `make test-slow` the others.
"""

from __future__ import annotations

import pytest

from loop.state import RunState
from tests.red_team.cheats import TIME, Cheat
from tests.red_team.researched import check, research

pytestmark = pytest.mark.timeout(900)  # one fixture runs everything
BUDGET_S = 1.0
QUICK = TIME[::5]
OTHERS = [cheat for cheat in TIME if cheat not in QUICK]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> RunState:
    return research(tmp_path_factory.mktemp("red"), QUICK, steps=0, budget_s=BUDGET_S)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> RunState:
    return research(tmp_path_factory.mktemp("others"), OTHERS, steps=0, budget_s=BUDGET_S)


@pytest.mark.parametrize("cheat", QUICK, ids=lambda cheat: cheat.name.replace(" ", "_"))
def test_no_time_is_won(cheat: Cheat, state: RunState) -> None:
    no_time_was_won(cheat, state, QUICK.index(cheat) + 2)


@pytest.mark.slow
@pytest.mark.parametrize("cheat", OTHERS, ids=lambda cheat: cheat.name.replace(" ", "_"))
def test_no_time_is_won_in_other_ways(cheat: Cheat, others: RunState) -> None:
    no_time_was_won(cheat, others, OTHERS.index(cheat) + 2)


def no_time_was_won(cheat: Cheat, state: RunState, n: int) -> None:
    """Fail unless experiment `n` ended as its cheat says."""
    if cheat.fate == "honest":  # its number is as good as chance and a second of training make it
        training = state.experiment(n).trainings[-1].finished
        assert training
        assert training.verified
        assert not training.flags
        assert training.total_seconds < 40
        return
    check(cheat, state, n)

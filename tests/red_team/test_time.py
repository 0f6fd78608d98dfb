"""Ways to learn for longer than the budget, each with a budget of seconds: none is kept."""

from __future__ import annotations

import pytest

from loop.state import RunState
from tests.red_team.cheats import TIME, Cheat
from tests.red_team.researched import check, research

pytestmark = pytest.mark.timeout(900)  # one fixture runs everything
BUDGET_S = 1.0


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> RunState:
    return research(tmp_path_factory.mktemp("red"), TIME, steps=0, budget_s=BUDGET_S)


@pytest.mark.parametrize("cheat", TIME, ids=lambda cheat: cheat.name.replace(" ", "_"))
def test_no_time_is_won(cheat: Cheat, state: RunState) -> None:
    n = TIME.index(cheat) + 2
    if cheat.fate == "honest":  # its number is as good as chance and a second of training make it
        training = state.experiment(n).trainings[-1].finished
        assert training
        assert training.verified
        assert not training.flags
        assert training.total_seconds < 40
        return
    check(cheat, state, n)

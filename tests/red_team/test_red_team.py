"""More than fifty ways to cheat (cheats.py), each trained and judged by the real engine: none is kept.

Each takes five seconds, so `make test` tries every fifth of them and `make test-slow` the others.
"""

from __future__ import annotations

import pytest

from loop.judging import audit
from loop.state import RunState
from tests.red_team.cheats import CHEATS, TIME, Cheat, honest
from tests.red_team.researched import check, research

pytestmark = pytest.mark.timeout(900)  # one fixture runs everything
STEPS = 8
QUICK = CHEATS[::5]
OTHERS = [cheat for cheat in CHEATS if cheat not in QUICK]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> RunState:
    return research(tmp_path_factory.mktemp("red"), QUICK, steps=STEPS, budget_s=60.0)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> RunState:
    return research(tmp_path_factory.mktemp("others"), OTHERS, steps=STEPS, budget_s=60.0)


def test_the_honest_trainer_is_measured_and_kept(state: RunState) -> None:
    first = state.experiment(1)
    (training,) = first.trainings
    assert training.finished
    assert (first.phase, training.finished.verified, training.finished.flags) == ("keep", True, [])
    assert training.finished.probes > 50


@pytest.mark.parametrize("cheat", QUICK, ids=lambda cheat: cheat.name.replace(" ", "_"))
def test_no_cheat_is_kept(cheat: Cheat, state: RunState) -> None:
    check(cheat, state, QUICK.index(cheat) + 2)


@pytest.mark.slow
@pytest.mark.parametrize("cheat", OTHERS, ids=lambda cheat: cheat.name.replace(" ", "_"))
def test_no_other_cheat_is_kept(cheat: Cheat, others: RunState) -> None:
    check(cheat, others, OTHERS.index(cheat) + 2)


@pytest.mark.parametrize("cheat", [*CHEATS, *TIME], ids=lambda cheat: cheat.name.replace(" ", "_"))
def test_the_audit_finds_what_it_can(cheat: Cheat) -> None:
    refused = audit.refusal(audit.audit(honest(), cheat.source))
    assert (refused is not None) == cheat.audit, refused


def test_there_are_enough_of_them() -> None:
    assert len(CHEATS) + len(TIME) >= 50
    assert len({cheat.name for cheat in [*CHEATS, *TIME]}) == len(CHEATS) + len(TIME)

"""The row with the steps of the loop."""

from __future__ import annotations

import msgspec

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import SIZES, settle
from tests.tui.recorded import Script, commit, night
from tui.panels.flow import Flow, current, fixed, flow


def test_the_steps_under_way_are_lit() -> None:
    script = Script().night(2)
    assert current(script.state) == set()
    script.add(ev.ExperimentStarted(3, commit(2)))
    assert current(script.state) == {"read"}
    script.add(ev.CandidateEdited(3, "train.py", "a", "b"))
    assert current(script.state) == {"propose"}
    script.add(ev.CandidateCommitted(3, commit(3), commit(2), "wider")).train(3)
    assert current(script.state) == {"train"}
    script.add(ev.PhaseChanged(3, 1, "judging"))
    assert current(script.state) == {"judge"}
    script.add(ev.TrainingFinished(3, 1, "finished", value=0.9))
    assert current(script.state) == {"judge"}
    script.add(ev.Judged(3, "keep", commit(3), 0.9, 1.0, "better"))
    assert current(script.state) == {"log"}
    script.add(ev.EngineStopped("by hand"))
    assert current(script.state) == set()


def test_what_no_experiment_may_change() -> None:
    script = Script().begin()
    assert fixed(script.state) == ["budget 5:00", "val_bpb lower is better"]
    known = fixed(Script().night(1).state)
    assert known[:4] == ["climbmix", "vocabulary 8,192", "context 2,048", "budget 5:00"]


def test_without_room_the_steps_stand_alone() -> None:
    state = night().state
    assert "lower is better" in flow(state, 160).plain
    assert flow(state, 120).plain.endswith("context 2,048 · budget 5:00")
    assert flow(state, 60).plain.strip().endswith("log")
    assert flow(state, 160).cell_length == 158


def test_where_it_is_narrow_the_budget_stays_and_its_reason_goes() -> None:
    state = Script().night(1).state
    assert state.engine is not None
    why = "short without a GPU; --budget 300 in a new run"
    state.engine = msgspec.structs.replace(state.engine, budget_s=60.0, budget_why=why)
    assert f"budget 1:00 ({why}) · val_bpb" in flow(state, 250).plain
    assert flow(state, 120).plain.endswith("fixed: climbmix · vocabulary 8,192 · context 2,048 · budget 1:00")
    assert flow(state, 80).plain.endswith("fixed: climbmix · budget 1:00")
    assert flow(state, 70).plain.endswith("fixed: budget 1:00")
    assert flow(Script().begin().state, 70).plain.endswith("fixed: budget 5:00")


async def test_a_low_screen_does_without(cockpit: Open) -> None:
    async with cockpit(night()).run_test(size=SIZES["usual"]) as pilot:
        await settle(pilot)
        assert pilot.app.screen.query_one(Flow).display
        await pilot.resize_terminal(120, 30)
        await settle(pilot)
        assert not pilot.app.screen.query_one(Flow).display

"""Which change the diff panel shows."""

from __future__ import annotations

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import BEFORE, Recorded, Script, fleet, team
from tui.app import Cockpit


def shown(app: Cockpit) -> str:
    return str(app.main.diff.border_title).split(" vs ")[0]


async def test_the_diff_shows_the_change_of_the_conversation_under_the_cursor(cockpit: Open) -> None:
    app = cockpit(Recorded(team().records))
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("1", "up")
        await settle(pilot)
        assert shown(app) == "train.py  candidate 7"
        await pilot.press("up")
        await settle(pilot)
        assert shown(app) == "train.py  candidate 6"
        assert "WIDTH = 165" in app.main.diff.after
        await pilot.press("f")
        await settle(pilot)
        assert shown(app) == "train.py  candidate 7"


async def test_the_diff_shows_what_trains_on_the_seat_under_the_cursor(cockpit: Open) -> None:
    app = cockpit(fleet())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("5", "right")
        await settle(pilot)
        assert shown(app) == "train.py  candidate 26"


async def test_a_candidate_that_waits_comes_before_what_one_looks_at(cockpit: Open) -> None:
    """Else the keys would approve another change than the one on the screen."""
    connection = Recorded(team().records)
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("p", "p")
        await settle(pilot)
        assert shown(app) == "train.py  candidate 7"
        connection.push(ev.ModeSet(True), ev.CandidateCommitted(6, "c" * 40, "d" * 40, "wider"))
        connection.push(ev.ApprovalRequested(6))
        await settle(pilot)
        assert shown(app) == "train.py  candidate 6"


async def test_an_experiment_that_is_not_edited_any_more_is_fetched(cockpit: Open) -> None:
    connection = Recorded(fleet().records)
    connection.state.live.edits.clear()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert app.main.diff.after == ""
        await pilot.press("5", "down")
        await settle(pilot)
        assert shown(app) == "train.py  candidate 27"
        assert "WIDTH = 160" in app.main.diff.after


async def test_what_was_merged_onto_a_newer_incumbent_is_fetched(cockpit: Open) -> None:
    """The engine's merge is not an edit: the agent's newest edit is the change to the old incumbent."""
    connection = Recorded(team().records)
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("1", "up", "up")
        await settle(pilot)
        assert "WIDTH = 165" in app.main.diff.after
        connection.push(ev.CandidateCommitted(6, "c" * 40, "d" * 40, "wider", author="engine"))
        await settle(pilot)
        assert str(app.main.diff.border_title).startswith("train.py  candidate 6 vs incumbent ddddddd")
        assert "WIDTH = 160" in app.main.diff.after


async def test_a_repair_is_shown_as_the_agent_edits_it(cockpit: Open) -> None:
    script = Script().night(2).propose(3).train(3)
    script.add(ev.TrainingFinished(3, 1, "crashed", "exit code 1"))
    connection = Recorded(script.records)
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        mended = BEFORE.replace("WIDTH = 128", "WIDTH = 144")
        connection.push(ev.CandidateEdited(3, "nanogpt/train.py", BEFORE, mended))
        await settle(pilot)
        assert "WIDTH = 144" in app.main.diff.after
        assert shown(app) == "train.py  candidate 3, its repair,"
        connection.push(ev.RepairGivenUp(3, "no idea"))
        await settle(pilot)
        assert shown(app) == "train.py  candidate 3", "it is not mended any more: what crashed is shown"
        assert "WIDTH = 160" in app.main.diff.after

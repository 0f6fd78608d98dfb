"""The diff panel."""

from __future__ import annotations

import pytest
from textual.content import Content

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import AFTER, Script, night, training


async def test_what_the_audit_finds_stands_above_the_diff(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        connection.push(ev.CandidateEdited(8, "nanogpt/train.py", "a", AFTER, ["line 3: reads a file"]))
        await settle(pilot)
        assert app.main.diff.items[0].body.plain == "audit: line 3: reads a file"


def test_side_by_side(cockpit: Open, snap_compare: Snap) -> None:
    assert snap_compare(cockpit(night()), terminal_size=SIZES["large"], run_before=press("2", "z", "d"))


@pytest.mark.parametrize("size", ["narrow", "usual"])
def test_waiting_for_approval(cockpit: Open, snap_compare: Snap, size: str) -> None:
    script = Script().begin(approval=True).propose(1).train(1).finish(1, 0.9979).propose(2)
    script.add(ev.ApprovalRequested(2))
    assert snap_compare(cockpit(script), terminal_size=SIZES[size], run_before=press("2"))


async def test_the_diff_goes_from_change_to_change(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        title = Content.from_markup(app.main.diff.border_title or "").plain
        text = [item.body.plain for item in app.main.diff.items]
        assert [text[i].split()[1] for i in app.main.diff.hunks] == ["-", "-"]
        assert title.startswith("train.py  candidate 7 vs incumbent ")
        assert title.endswith("+2 -2")


async def test_the_same_file_twice_is_no_difference(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert app.main.diff.compare(AFTER, AFTER) == (0, 0)
        assert [item.body.plain for item in app.main.diff.items] == ["no difference"]

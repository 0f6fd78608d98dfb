"""The training log."""

from __future__ import annotations

from textual.pilot import Pilot

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import night, training
from tui.lines import Lines
from tui.screens.log import LogScreen


def test_log(cockpit: Open, snap_compare: Snap) -> None:
    assert snap_compare(cockpit(night()), terminal_size=SIZES["usual"], run_before=press("l"))


async def test_new_lines_appear_while_the_log_is_open(cockpit: Open) -> None:
    def last(pilot: Pilot[int]) -> str:
        return pilot.app.screen.query_one(Lines).items[-1].body.plain

    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("l")
        await settle(pilot)
        assert last(pilot).startswith("step 00560")
        connection.push(ev.LogLines(7, 1, "[warning] \x1b[31mred"))
        await settle(pilot)
        assert last(pilot) == "[warning] [31mred"


async def test_the_key_that_opens_the_log_closes_it(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("l")
        assert isinstance(pilot.app.screen, LogScreen)
        await pilot.press("l")
        assert len(pilot.app.screen_stack) == 1

"""Messages that wait for the agent, and limits, on screen."""

from __future__ import annotations

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import Recorded, Script
from tui.lines import Lines
from tui.screens.messages import MessagesScreen


def script() -> Script:
    """A run with three messages, the second of which is the engine's own."""
    found = Script().night(2).add(ev.Steered("try [bold]wider[/] blocks"))
    return found.propose(3).add(ev.Rejected(3, "too slow"), ev.Steered("no new packages"))


async def test_x_takes_back_the_message_under_the_cursor(cockpit: Open) -> None:
    connection = Recorded(script().records)
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        waiting = list(connection.state.steering)
        assert len(waiting) == 3
        await pilot.press("I", "down", "down", "x")
        await settle(pilot)
        assert connection.sent == [ev.TakeBack(waiting[2].id)]
        connection.push(ev.TakenBack(waiting[2].id))
        await settle(pilot)
        assert isinstance(pilot.app.screen, MessagesScreen)
        assert len(pilot.app.screen.query_one(Lines).items) == 2
        await pilot.press("escape")
        assert len(pilot.app.screen_stack) == 1


async def test_limits_are_edited_as_a_line(cockpit: Open) -> None:
    limits = ev.Limits(max_experiments=100, until="val_bpb < 0.9")
    connection = Recorded(Script().night(2).add(ev.LimitsSet(limits)).records)
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("L", *["backspace"] * 3, *"0.8", "enter")
        await settle(pilot)
        assert connection.sent == [ev.SetLimits("experiments 100, crashes 10, until val_bpb < 0.8")]


def test_looks(cockpit: Open, snap_compare: Snap) -> None:
    assert snap_compare(cockpit(script()), terminal_size=SIZES["usual"], run_before=press("I"))

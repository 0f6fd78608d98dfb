"""When the panels below another screen are painted."""

from __future__ import annotations

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import training
from tui.pace import BELOW_S, HIDDEN_S, TYPING_S, Pace


def test_below_a_dialog_once_a_second_and_not_while_somebody_types() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    assert pace.may_paint(hidden=False)
    assert not pace.may_paint(hidden=False)
    now += BELOW_S
    pace.key()
    assert not pace.may_paint(hidden=False), "the next key is near"
    now += TYPING_S + 0.01
    assert pace.may_paint(hidden=False)
    now += BELOW_S
    assert not pace.may_paint(hidden=True), "what nobody sees has more time"
    now += HIDDEN_S
    assert pace.may_paint(hidden=True)
    assert pace.since_key > BELOW_S + HIDDEN_S


async def test_what_came_below_a_screen_is_there_when_it_has_gone(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        connection.push(ev.AgentDelta(8, "text", "a new idea", id="new"))
        await settle(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert app.main.transcript.items[-1].body.plain == "a new idea"
        assert app.main.pace.since_key < 60, "the app tells of each key"

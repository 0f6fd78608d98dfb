"""The link to the engine."""

from __future__ import annotations

import asyncio

import pytest

from loop import events as ev
from loop.client import Connection, ConnectionLost
from tests.tui.conftest import Open
from tests.tui.pilot import SIZES, WIDE, settle
from tests.tui.recorded import Recorded, commit, night, training, waiting
from tui.app import Cockpit
from tui.text import title


async def test_a_refused_command_says_why(cockpit: Open) -> None:
    connection = training()
    connection.refuse = "no [training] run to stop"
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("s")
        await settle(pilot)
        assert [n.message for n in app._notifications] == ["no [training] run to stop"]


async def test_the_cockpit_waits_for_an_engine_that_is_gone(cockpit: Open) -> None:
    connection = Recorded(night().records)
    app = cockpit(connection)
    async with app.run_test(size=SIZES["usual"]) as pilot:
        await settle(pilot)
        connection.lose()
        await settle(pilot)
        assert app.link.trouble == "engine gone, waiting for it"
        async with asyncio.timeout(30):
            while app.link.trouble:  # a new connection to the same recording
                await pilot.pause(0.1)


async def test_what_happens_is_told(cockpit: Open) -> None:
    connection = waiting()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        connection.push(
            ev.ApprovalRequested(3),
            ev.Judged(3, "keep", commit(3), 0.9, 60.0, "keep: lower wins", -0.1),
            ev.Judged(3, "crash", commit(3), None, 0.0, "exit code 1"),
            ev.Judged(3, "discard", commit(3), 1.2, 60.0, "discard: lower wins", 0.2),
            ev.Paused("limit reached", "engine"),
            ev.Paused("paused by hand"),
            ev.PermissionAsked(8, "8.1", "pip install [torch]"),
            ev.Notice("info", "noted"),
            ev.EngineStopped("stopped by hand"),
        )
        await settle(pilot)
        idea = title(app.link.state.experiment(3))
        assert [(n.message, n.severity) for n in app._notifications] == [
            (f"#3 waits for your approval: {idea}", "warning"),
            (f"#3 kept: 0.9000 -0.1000  {idea}", "information"),
            ("#3 crashed: exit code 1", "error"),
            ("Paused: limit reached", "warning"),
            ("The agent asks for permission: pip install [torch]", "warning"),
            ("noted", "information"),
            ("The engine stopped: stopped by hand", "warning"),
        ]


async def test_a_stopped_engine_is_not_called_lost(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        connection.push(ev.EngineStopped("stopped by hand"))
        connection.lose()
        await settle(pilot)
        assert app.link.trouble == "q leaves"


async def test_before_the_engine_answers_there_is_no_connection() -> None:
    async def connect() -> Connection:
        raise ConnectionLost("nobody there")

    app = Cockpit(connect)
    with pytest.raises(ConnectionLost, match="not connected yet"):
        _ = app.link.connection
    with pytest.raises(ConnectionLost, match="nobody there"):
        await app.link.follow(app.main)

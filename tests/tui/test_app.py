"""What the cockpit remembers, and how it is left."""

from __future__ import annotations

from pathlib import Path

from loop import events as ev
from loop.client import Connection, ConnectionLost
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import Script, training
from tui.app import Cockpit
from tui.theme import THEMES


async def test_detaching_leaves_the_engine_alone(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("q")
    assert app.return_value == 0
    assert connection.sent == []
    assert "attach --tag nov23" in app.last_words


async def test_split_wrap_theme_and_order_are_remembered(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=(200, 50)) as pilot:
        await settle(pilot)
        await pilot.press("d", "W", "o", "t")
        assert app.theme == THEMES[1].name
        assert app.main.diff.split
    again = cockpit(training())
    async with again.run_test(size=(200, 50)) as pilot:
        await settle(pilot)
        assert again.theme == THEMES[1].name
        assert (again.main.diff.split, again.main.diff.wrap) == (True, True)
        assert again.main.results.order == "oldest first"


async def test_an_engine_that_cannot_be_reached_ends_the_cockpit(tmp_path: Path) -> None:
    async def connect() -> Connection:
        raise ConnectionLost("the engine does not answer")

    app = Cockpit(connect, tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.pause()
    assert app.return_value == 2
    assert app.last_words == "the engine does not answer"


async def test_after_the_engine_has_stopped_there_is_nothing_to_say(cockpit: Open) -> None:
    app = cockpit(Script().night(1).add(ev.EngineStopped("stopped by hand")))
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+q")
    assert (app.return_value, app.last_words) == (0, "")

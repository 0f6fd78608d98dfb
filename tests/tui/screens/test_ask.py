"""The dialogs that ask for a text or a choice."""

from __future__ import annotations

import pytest

from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import night, training, waiting
from tui.screens.ask import Choose


async def test_escape_takes_a_question_back(cockpit: Open) -> None:
    connection = waiting()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("r", *"no", "escape")
        await settle(pilot)
        assert connection.sent == []
        assert len(pilot.app.screen_stack) == 1


@pytest.mark.parametrize("key", ["i", "Q"])
def test_dialogs(cockpit: Open, snap_compare: Snap, key: str) -> None:
    assert snap_compare(cockpit(night()), terminal_size=SIZES["usual"], run_before=press(key))


async def test_a_choice_takes_only_its_own_keys(cockpit: Open) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("Q", "x", "space")
        assert isinstance(pilot.app.screen, Choose)
        await pilot.press("escape")
        await settle(pilot)
        assert len(pilot.app.screen_stack) == 1
        assert connection.sent == []

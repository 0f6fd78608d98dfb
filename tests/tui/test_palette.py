"""The command palette."""

from __future__ import annotations

import pytest
from textual.command import CommandPalette, DiscoveryHit, Hit
from textual.pilot import Pilot

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import training
from tui.actions import ON_EVERY_SCREEN
from tui.palette import Actions, Commands


async def offered(pilot: Pilot[int]) -> list[str]:
    """The help of each action that the palette offers over the screen that is shown now."""
    hits = [hit async for hit in Actions(pilot.app.screen).discover()]
    assert all(isinstance(hit, DiscoveryHit) for hit in hits)
    return [hit.help or "" for hit in hits]


async def test_the_main_screen_offers_what_would_do_something(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        found = await offered(pilot)
        assert {"end the training shown now", "val_bpb over experiments", "next panel"} <= set(found)
        assert "edit the waiting candidate in $EDITOR" not in found


@pytest.mark.parametrize("key", ["enter", "question_mark", "l"])
async def test_other_screens_offer_what_works_on_each(cockpit: Open, key: str) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press(key)
        await settle(pilot)
        found = await offered(pilot)
        assert "end the training shown now" in found
        assert set(found) <= {action.help for action in ON_EVERY_SCREEN}


async def test_words_of_the_help_find_an_action(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        hits = [hit async for hit in Actions(pilot.app.screen).search("incumbent")]
        assert {hit.help for hit in hits if isinstance(hit, Hit)} == {
            "go to the incumbent",
            "candidate against incumbent",
            "compare the marked experiments, or this one with the incumbent",
        }


@pytest.mark.parametrize("before", [(), ("enter",)])
async def test_what_is_chosen_is_done(cockpit: Open, before: tuple[str, ...]) -> None:
    """Over an experiment it is the training of that one."""
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press(*before, "ctrl+p")
        await pilot.pause()
        assert isinstance(pilot.app.screen, CommandPalette)
        await pilot.press(*"end training")
        await pilot.pause(0.5)
        await pilot.press("down", "enter")
        await pilot.pause(0.2)
        await settle(pilot)
        assert connection.sent == [ev.StopTraining(n=7) if before else ev.StopTraining()]


async def test_actions_stand_before_what_textual_offers(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        commands = Commands(pilot.app.screen)
        names = [str(hit.display) async for hit in commands.discover() if isinstance(hit, DiscoveryHit)]
        assert names[0].startswith("Pause")
        assert names.index("Screenshot") > names.index("Plot (4)")
        found = [hit async for hit in commands.search("screenshot")]
        assert len(found) == 1

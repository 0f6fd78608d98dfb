"""The keys that command the run."""

from __future__ import annotations

import pytest

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import AFTER, queue, training, waiting
from tui.screens.ask import Ask, Choose
from tui.screens.experiment import ExperimentScreen
from tui.screens.help import Help
from tui.screens.run import NO_CANDIDATE
from tui.theme import THEMES


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("space", ev.Pause()),
        ("s", ev.StopTraining()),
        ("A", ev.SetMode(True)),
    ],
)
async def test_a_key_sends_its_command(cockpit: Open, key: str, command: ev.AnyCommand) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press(key)
        await settle(pilot)
        assert connection.sent == [command]


async def test_space_goes_on_when_paused(cockpit: Open) -> None:
    connection = training()
    connection.push(ev.Paused("paused by hand"))
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("space")
        await settle(pilot)
        assert connection.sent == [ev.Resume()]


async def test_a_waiting_candidate_is_shown_and_approved(cockpit: Open) -> None:
    connection = waiting()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert app.main.diff.after == AFTER
        assert "a approves" in "".join(item.body.plain for item in app.main.diff.items)
        await pilot.press("a")
        await settle(pilot)
        assert connection.sent == [ev.Approve(3)]


async def test_rejecting_asks_for_the_reason(cockpit: Open) -> None:
    connection = waiting()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("r")
        assert isinstance(pilot.app.screen, Ask)
        await pilot.press(*"too slow", "enter")
        await settle(pilot)
        assert connection.sent == [ev.Reject("too slow", 3)]


async def test_steering_sends_what_was_typed(cockpit: Open) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("i", *"try q [b]", "enter")
        await settle(pilot)
        assert connection.sent == [ev.Steer("try q [b]")]


@pytest.mark.parametrize(("key", "now"), [("a", False), ("n", True)])
async def test_stopping_the_engine_asks_first(cockpit: Open, key: str, now: bool) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("Q")
        assert isinstance(pilot.app.screen, Choose)
        assert connection.sent == []
        await pilot.press(key)
        await settle(pilot)
        assert connection.sent == [ev.StopEngine(now=now)]


@pytest.mark.parametrize(("key", "allow"), [("a", True), ("r", False)])
async def test_a_cli_agent_that_asks_leave_is_answered(cockpit: Open, key: str, allow: bool) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        connection.push(ev.PermissionAsked(8, "8.1", "pip install [torch]", "execute"))
        await settle(pilot)
        assert "pip install" in str(app.main.transcript.border_subtitle)
        await pilot.press(key)
        await settle(pilot)
        assert connection.sent == [ev.Permit(allow, "8.1")]
        connection.push(ev.PermissionAnswered(8, "8.1", allow))
        await settle(pilot)
        assert not app.main.transcript.border_subtitle


async def test_in_approval_mode_the_cursor_picks_the_candidate(cockpit: Open) -> None:
    connection = queue()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert "candidate 4" in str(app.main.diff.border_title)  # it waits longest, wherever the cursor is
        text = "".join(item.body.plain for item in app.main.diff.items)
        assert "queue: #3 approved  #4 waits  #5 waits" in text
        await pilot.press("j", "k")
        await settle(pilot)
        assert "candidate 5" in str(app.main.diff.border_title)
        await pilot.press("a", "u")
        await settle(pilot)
        await pilot.press("j", "j", "r", *"no", "enter")
        await settle(pilot)
        assert connection.sent == [ev.Approve(5), ev.Approve(5, first=True), ev.Reject("no", 3)]


@pytest.mark.parametrize(
    ("key", "command"), [("space", ev.Pause()), ("s", ev.StopTraining(n=7)), ("A", ev.SetMode(True))]
)
async def test_the_run_is_commanded_from_the_screen_of_an_experiment_too(
    cockpit: Open, key: str, command: ev.AnyCommand
) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("enter", key)
        await settle(pilot)
        assert connection.sent == [command]
        assert isinstance(pilot.app.screen, ExperimentScreen)


async def test_theme_and_help_work_on_the_screen_of_an_experiment_too(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("enter", "t", "question_mark")
        assert pilot.app.theme == THEMES[1].name
        assert isinstance(pilot.app.screen, Help)


async def test_a_dialog_takes_the_keys_of_the_run(cockpit: Open) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("question_mark", "s", "space", "A")
        await settle(pilot)
        assert connection.sent == []


async def test_without_a_candidate_the_keys_say_what_is_missing(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        app.main.action_reject()
        app.main.action_first()
        await settle(pilot)
        assert [n.message for n in app._notifications] == [NO_CANDIDATE] * 2


async def test_only_a_candidate_that_waits_can_be_edited(cockpit: Open) -> None:
    app = cockpit(queue())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        app.main.picked = 3
        await pilot.press("e")
        await settle(pilot)
        assert [n.message for n in app._notifications] == ["#3 is approved already"]

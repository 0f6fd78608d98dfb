"""The main screen: how its panels are laid out, and what it looks like."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest
from textual.widgets._footer import FooterKey

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import Recorded, Script, commit, night, training, waiting
from tui.screens.help import Help
from tui.screens.log import LogScreen

HOSTILE = (
    "[bold red]markup[/] and [@click=app.quit]a link[/]\n"
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J bell\x07 back\x08space\n"
    "turned \u202etxet\u202c around, wide 漢字 🧪, joined e\u0301\n" + "x" * 1_000_000
)


async def test_copy_goes_through_the_terminal(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("y")
        assert app.clipboard == commit(7)


async def test_panels_zoom_and_narrow_screens(cockpit: Open) -> None:
    app = cockpit(training())
    panels = ("#agent", "#diff", "#results-panel", "#plot")

    def shown() -> list[str]:
        return [name for name in panels if app.screen.query_one(name).display]

    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert shown() == list(panels)
        await pilot.press("2", "z")
        assert shown() == ["#diff"]
        await pilot.press("1")
        assert shown() == ["#agent"]
        await pilot.press("z")
        assert shown() == list(panels)
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        assert shown() == ["#agent"]
        await pilot.press("4")
        assert shown() == ["#plot"]
        assert app.screen.query_one("#training").display


async def test_hunks_log_and_help(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert len(app.main.diff.hunks) == 2
        await pilot.press("n", "N", "l")
        assert isinstance(app.screen, LogScreen)
        await pilot.press("escape", "question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        assert len(app.screen_stack) == 1


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_training(cockpit: Open, snap_compare: Snap, size: tuple[int, int]) -> None:
    assert snap_compare(cockpit(night()), terminal_size=size, run_before=press())


def test_before_the_first_experiment(cockpit: Open, snap_compare: Snap) -> None:
    script = Script().begin().add(ev.Preparing("preparing data: tokenising 41%"))
    assert snap_compare(cockpit(script), terminal_size=SIZES["usual"], run_before=press())


def test_paused(cockpit: Open, snap_compare: Snap) -> None:
    script = Script().night(5).add(ev.Paused("limit reached: 5 experiments", "engine"))
    assert snap_compare(cockpit(script), terminal_size=SIZES["narrow"], run_before=press())


def test_stopped(cockpit: Open, snap_compare: Snap) -> None:
    script = Script().night(5).add(ev.EngineStopped("stopped by hand"))
    assert snap_compare(cockpit(script), terminal_size=SIZES["narrow"], run_before=press())


def test_hostile_text_is_shown_as_text(
    cockpit: Open, snap_compare: Snap, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = "a = 1\n", "a = 2  # " + HOSTILE
    script = (
        Script()
        .night(2)
        .add(
            ev.ExperimentStarted(3, commit(2)),
            ev.AgentDelta(3, "text", HOSTILE, id="a"),
            ev.AgentDelta(3, "tool", HOSTILE, tool="[tool]"),
            ev.AgentDelta(3, "error", "[/not closed"),
            ev.CandidateEdited(3, "train.py", before, after),
            ev.CandidateCommitted(3, commit(3), commit(2), HOSTILE[:60], HOSTILE[:200]),
        )
    )
    script.train(3).add(ev.LogLines(3, 1, HOSTILE), ev.Notice("warning", "[red]not markup"))
    connection = Recorded(script.records)
    committed = ev.ExperimentDetail(3, "train.py", before, after)
    monkeypatch.setattr(connection, "experiment", AsyncMock(return_value=committed))
    assert snap_compare(cockpit(connection), terminal_size=SIZES["usual"], run_before=press())


async def test_a_resize_under_another_screen_is_not_lost(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        await pilot.pause(0.1)
        assert app.main.single
        assert not app.main.query_one("#plot").display
        assert app.main.query_one("#tabbar").display


async def test_a_click_on_a_tab_shows_its_panel(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=SIZES["narrow"]) as pilot:
        await settle(pilot)
        await pilot.click("#tabbar", offset=(12, 0))
        await settle(pilot)
        assert app.main.query_one("#diff").display
        assert not app.main.query_one("#agent").display


async def test_the_footer_below_another_screen_stays_up_to_date(cockpit: Open) -> None:
    connection = waiting()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        connection.push(ev.Rejected(3, "no"))
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert "Approve" not in [key.description for key in pilot.app.screen.query(FooterKey)]


def test_stopping(cockpit: Open, snap_compare: Snap) -> None:
    script = night().add(ev.EngineStopping("stopped by hand"))
    assert snap_compare(cockpit(script), terminal_size=SIZES["narrow"], run_before=press())

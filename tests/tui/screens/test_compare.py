"""The screen that compares experiments."""

from __future__ import annotations

import pytest
from textual.widgets import TabbedContent

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import Script, commit, night
from tui.screens.compare import CompareScreen, figures


async def test_marked_rows_are_compared(cockpit: Open) -> None:
    async with cockpit(night()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("down", "down", "m", "m", "j", "m", "c")
        await settle(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen)
        assert screen._numbers == [21, 23, 24]
        assert str(screen.diff.border_title).startswith("#21 → #23")
        await pilot.press("right_square_bracket")
        assert str(screen.diff.border_title).startswith("#21 → #24")
        await pilot.press("left_square_bracket", "left_square_bracket")
        assert str(screen.diff.border_title).startswith("#23 → #24")
        for key, tab in zip("1234", ("figures", "curves", "diff", "lineage"), strict=True):
            await pilot.press(key)
            assert screen.query_one(TabbedContent).active == f"tab-{tab}"
        await pilot.press("escape")
        assert len(pilot.app.screen_stack) == 1


async def test_without_marks_this_one_is_compared_with_the_incumbent(cockpit: Open) -> None:
    app = cockpit(night())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        app.main.results.go_to(20)
        await pilot.press("c")
        assert isinstance(app.screen, CompareScreen)
        assert app.screen._numbers == [20, app.link.state.incumbent]


async def test_a_second_press_takes_the_mark_away(cockpit: Open) -> None:
    app = cockpit(night())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("m", "up", "m")
        assert app.main.results.marks == set()


def test_figures_stand_in_columns_and_differences_are_bold() -> None:
    state = Script().night(6).state
    lines = figures([state.experiment(1), state.experiment(2), state.experiment(5)], state)
    assert lines[0].plain.split() == ["#1", "#2", "#5"]
    text = {line.plain[:20].strip(): line for line in lines[1:]}
    assert text["verdict"].plain.split()[1:] == ["keep", "keep", "crash"]
    assert text["depth"].plain.split()[1:] == ["8", "8", "8"]
    assert "bold" not in str(text["depth"].spans)
    assert "bold" in str(text["verdict"].spans)


async def test_an_experiment_without_trainings_has_empty_cells(cockpit: Open) -> None:
    script = Script().night(2).add(ev.ExperimentStarted(3, commit(2)))
    app = cockpit(script)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("c")
        await settle(pilot)
        assert isinstance(app.screen, CompareScreen)


@pytest.mark.parametrize("tab", ["1", "2", "3", "4"])
def test_looks(cockpit: Open, snap_compare: Snap, tab: str) -> None:
    keys = ("down", "down", "m", "m", "j", "m", "c", tab)
    assert snap_compare(cockpit(night()), terminal_size=SIZES["usual"], run_before=press(*keys))

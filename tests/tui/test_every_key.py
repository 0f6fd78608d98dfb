"""Each key of the table, pressed on the screen it belongs to, does what the table says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import Recorded, Script, night, training
from tui.actions import (
    ACTIONS,
    CHOOSE,
    IN_COMPARISON,
    IN_EXPERIMENT,
    IN_LISTS,
    MOVES,
    ON_EVERY_SCREEN,
    TAKE_BACK,
    Action,
)
from tui.screens.messages import MessagesScreen

SCREENS: dict[str, tuple[list[str], tuple[Action, ...]]] = {
    "main": (["3"], (*ACTIONS, *MOVES)),
    "transcript": (["1"], (*ACTIONS, *MOVES, CHOOSE)),
    "experiment": (["3", "enter", "2"], (*IN_EXPERIMENT, *ON_EVERY_SCREEN, *MOVES)),
    "comparison": (["3", "c"], (*IN_COMPARISON, *ON_EVERY_SCREEN, *MOVES)),
    "messages": (["I"], (*(a for a in ACTIONS if a.id == "messages"), TAKE_BACK, *MOVES)),
}
"""How each screen is opened, and its actions."""


def method(name: str) -> tuple[str, list[Any]]:
    """The method's name and its arguments: `tab('diff')` is `action_tab` with `diff`."""
    word, _, rest = name.removeprefix("app.").partition("(")
    return f"action_{word}", [eval(rest[:-1])] if rest else []


def expected(actions: tuple[Action, ...], screen: str) -> dict[str, tuple[str, list[Any]]]:
    """What each key is to call. Where several actions have a key, the widget in focus comes first."""
    found: dict[str, tuple[str, list[Any]]] = {}
    focused = [a for a in actions if a in MOVES or (screen == "transcript" and a in IN_LISTS)]
    for action in (*focused, *actions):
        for key in action.key.split(","):
            found.setdefault(key, method(action.name))
    if screen == "main":
        found["escape"] = ("action_clear_filter", [])
    if screen == "messages":
        found["I"] = found["q"] = ("action_dismiss", [])
    return found


@pytest.mark.parametrize(
    "screen", [pytest.param(name, marks=[pytest.mark.slow] if name != "main" else []) for name in SCREENS]
)
async def test_each_key_calls_its_action(cockpit: Open, monkeypatch: pytest.MonkeyPatch, screen: str) -> None:
    opening, actions = SCREENS[screen]
    app = cockpit(night())
    called: list[tuple[str, list[Any]]] = []

    def recorder(name: str) -> Callable[..., None]:
        return lambda *args: called.append((name, [arg for arg in args if arg is not None]))

    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press(*opening)
        await settle(pilot)
        wanted = expected(actions, screen)
        monkeypatch.setattr(type(app.screen), "check_action", lambda *args: True)
        nodes = [app, app.screen, *([app.focused] if app.focused else []), app.main]
        for name, _ in wanted.values():
            for node in nodes:
                if hasattr(node, name):
                    monkeypatch.setattr(node, name, recorder(name))
        for key, call in wanted.items():
            await pilot.press(key)
            assert called == [call], key
            called.clear()


@pytest.mark.slow
async def test_tab_goes_from_panel_to_panel(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("1")
        found = []
        for _ in range(4):
            found.append(str(pilot.app.focused.id if pilot.app.focused else ""))
            await pilot.press("tab")
        assert found == ["agent", "diff", "results", "plot"]
        await pilot.press("shift+tab")
        assert pilot.app.focused is not None
        assert pilot.app.focused.id == "plot"


@pytest.mark.slow
@pytest.mark.parametrize(("key", "status"), [("K", "keep"), ("D", "discard")])
async def test_a_verdict_is_changed_by_hand(cockpit: Open, key: str, status: str) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("j", "enter", key, "y")
        await settle(pilot)
        assert [(sent.n, sent.status) for sent in connection.sent if isinstance(sent, ev.Override)] == [
            (6, status)
        ]


@pytest.mark.parametrize(
    "opening", [[], ["j", "enter"], ["c", "3"]], ids=["main", "experiment", "comparison"]
)
@pytest.mark.slow
async def test_the_diff_is_split_wrapped_and_walked_on_each_screen(cockpit: Open, opening: list[str]) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press(*opening)
        await settle(pilot)
        diff = app.screen.diff  # type: ignore[attr-defined]
        before = "\n".join(f"line {i}" for i in range(200))
        diff.compare(before, before.replace("line 50\n", "x\n").replace("line 150\n", "y\n" * 60))
        await settle(pilot)
        places = []
        for key in ("n", "N", "n", "n"):
            await pilot.press(key)
            places.append(diff.scroll_offset.y)
        assert places[0] >= 0
        assert places[-1] > places[1]
        await pilot.press("d", "W")
        assert (diff.split, diff.wrap) == (True, True)


@pytest.mark.slow
async def test_the_keys_that_move_move(cockpit: Open) -> None:
    app = cockpit(night())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        table = app.main.results

        async def at(*keys: str) -> int | None:
            await pilot.press(*keys)
            return table.cursor

        assert [await at(key) for key in ("down", "j", "up", "k")] == [1, 2, 1, 0]
        assert [await at(key) for key in ("G", "g", "end", "home")] == [25, 0, 25, 0]
        page = await at("pagedown")
        assert page is not None
        assert page > 5
        assert [await at(key) for key in ("pageup", "ctrl+f", "ctrl+b")] == [0, page, 0]
        before = table.scroll_offset.x
        await pilot.press("right", "right")
        await settle(pilot)
        assert table.scroll_target_x > before
        await pilot.press("left", "left")
        assert table.scroll_target_x == before


@pytest.mark.slow
async def test_delete_takes_a_message_back(cockpit: Open) -> None:
    connection = Recorded(Script().night(1).add(ev.Steered("wider")).records)
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("I", "delete")
        await settle(pilot)
        assert isinstance(pilot.app.screen, MessagesScreen)
        assert [type(sent) for sent in connection.sent] == [ev.TakeBack]


@pytest.mark.slow
async def test_keys_do_nothing_bad_before_there_is_a_run(cockpit: Open) -> None:
    """Every key of the main screen, with an engine that has not said anything yet."""
    keys = [key for action in (*ACTIONS, *MOVES) for key in action.key.split(",") if key != "q"]
    connection = Recorded(Script().records)
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        for key in keys:
            await pilot.press(key, *(["escape"] if len(app.screen_stack) > 1 else []))
            while len(app.screen_stack) > 1:
                await pilot.press("escape")
        assert connection.sent == []
        assert app.is_running

"""What the screens look like; each picture under __snapshots__ was looked at before it became the rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.recorded import AFTER, BEFORE, Recorded, Script, commit
from tests.tui.test_keys import settle

Snap = Callable[..., bool]
SIZES = {"narrow": (80, 24), "usual": (120, 40), "large": (200, 50)}


def training() -> Script:
    return Script().night(24).propose(25).train(25).propose(26).progress(25, 0.61)


def press(*keys: str) -> Callable[[Pilot[int]], Awaitable[None]]:
    async def run(pilot: Pilot[int]) -> None:
        await settle(pilot)
        for key in keys:
            await pilot.press(key)
            await settle(pilot)
        await still(pilot)

    return run


async def still(pilot: Pilot[int]) -> None:
    """Until two pictures in a row are the same: nothing is being laid out or loaded any more."""
    before, now = "", pilot.app.export_screenshot()
    while now != before:
        await settle(pilot)
        before, now = now, pilot.app.export_screenshot()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_training(cockpit: Open, snap_compare: Snap, size: tuple[int, int]) -> None:
    assert snap_compare(cockpit(training()), terminal_size=size, run_before=press())


@pytest.mark.parametrize("theme", ["cockpit-light", "cockpit-ansi"])
def test_themes(cockpit: Open, snap_compare: Snap, theme: str) -> None:
    async def choose(pilot: Pilot[int]) -> None:
        pilot.app.theme = theme
        await settle(pilot)
        await still(pilot)

    assert snap_compare(cockpit(training()), terminal_size=SIZES["usual"], run_before=choose)


@pytest.mark.parametrize("key", ["1", "2", "4"])
def test_one_panel_at_a_time(cockpit: Open, snap_compare: Snap, key: str) -> None:
    assert snap_compare(cockpit(training()), terminal_size=SIZES["narrow"], run_before=press(key))


def test_side_by_side(cockpit: Open, snap_compare: Snap) -> None:
    assert snap_compare(cockpit(training()), terminal_size=SIZES["large"], run_before=press("2", "z", "d"))


@pytest.mark.parametrize("size", ["narrow", "usual"])
def test_waiting_for_approval(cockpit: Open, snap_compare: Snap, size: str) -> None:
    script = Script().begin(approval=True).propose(1).train(1).finish(1, 0.9979).propose(2)
    script.add(ev.ApprovalRequested(2))
    assert snap_compare(cockpit(script), terminal_size=SIZES[size], run_before=press("2"))


@pytest.mark.parametrize("size", ["narrow", "usual"])
def test_a_queue_of_candidates(cockpit: Open, snap_compare: Snap, size: str) -> None:
    script = Script().night(2).add(ev.ModeSet(True)).propose(3).propose(4).propose(5)
    script.add(ev.ApprovalRequested(3), ev.Approved(3), ev.ApprovalRequested(4), ev.ApprovalRequested(5))
    found = ["line 3: open reads a file"]
    script.add(ev.CandidateEdited(4, "nanogpt/train.py", BEFORE, AFTER, found))
    assert snap_compare(cockpit(script), terminal_size=SIZES[size], run_before=press("2"))


def test_before_the_first_experiment(cockpit: Open, snap_compare: Snap) -> None:
    script = Script().begin().add(ev.Preparing("preparing data: tokenising 41%"))
    assert snap_compare(cockpit(script), terminal_size=SIZES["usual"], run_before=press())


def test_paused(cockpit: Open, snap_compare: Snap) -> None:
    script = Script().night(5).add(ev.Paused("limit reached: 5 experiments", "engine"))
    assert snap_compare(cockpit(script), terminal_size=SIZES["narrow"], run_before=press())


def test_stopped(cockpit: Open, snap_compare: Snap) -> None:
    script = Script().night(5).add(ev.EngineStopped("stopped by hand"))
    assert snap_compare(cockpit(script), terminal_size=SIZES["narrow"], run_before=press())


@pytest.mark.parametrize("tab", ["1", "2", "3", "4", "5"])
def test_experiment(cockpit: Open, snap_compare: Snap, tab: str) -> None:
    keys = ("b", "enter", tab)
    assert snap_compare(cockpit(training()), terminal_size=SIZES["usual"], run_before=press(*keys))


def test_crashed_experiment_narrow(cockpit: Open, snap_compare: Snap) -> None:
    keys = ("slash", *"status:crash", "enter", "enter")
    assert snap_compare(cockpit(training()), terminal_size=SIZES["narrow"], run_before=press(*keys))


@pytest.mark.parametrize("key", ["question_mark", "l", "Q", "i"])
def test_dialogs(cockpit: Open, snap_compare: Snap, key: str) -> None:
    assert snap_compare(cockpit(training()), terminal_size=SIZES["usual"], run_before=press(key))


HOSTILE = (
    "[bold red]markup[/] and [@click=app.quit]a link[/]\n"
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J bell\x07 back\x08space\n"
    "turned \u202etxet\u202c around, wide 漢字 🧪, joined e\u0301\n" + "x" * 1_000_000
)


def test_hostile_text_is_shown_as_text(cockpit: Open, snap_compare: Snap) -> None:
    script = (
        Script()
        .night(2)
        .add(
            ev.ExperimentStarted(3, commit(2)),
            ev.AgentDelta(3, "text", HOSTILE, id="a"),
            ev.AgentDelta(3, "tool", HOSTILE, tool="[tool]"),
            ev.AgentDelta(3, "error", "[/not closed"),
            ev.CandidateEdited(3, "train.py", "a = 1\n", "a = 2  # " + HOSTILE),
            ev.CandidateCommitted(3, commit(3), commit(2), HOSTILE[:60], HOSTILE[:200]),
        )
    )
    script.train(3).add(ev.LogLines(3, 1, HOSTILE), ev.Notice("warning", "[red]not markup"))
    assert snap_compare(cockpit(script), terminal_size=SIZES["usual"], run_before=press())


async def test_the_cockpit_waits_for_an_engine_that_is_gone(cockpit: Open) -> None:
    connection = Recorded(training().records)
    app = cockpit(connection)
    async with app.run_test(size=SIZES["usual"]) as pilot:
        await settle(pilot)
        connection.lose()
        await settle(pilot)
        assert app.link.trouble == "engine gone, waiting for it"
        async with asyncio.timeout(30):
            while app.link.trouble:  # a new connection to the same recording
                await pilot.pause(0.1)

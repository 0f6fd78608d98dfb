"""The grid of seats: what its cells say, where its cursor goes, and what the strip and the keys follow."""

from __future__ import annotations

import pytest

from loop import events as ev
from loop.events import CurvePoint
from loop.state import RunState, SeatView
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import Recorded, fleet, training
from tui.panels.seats import METER, Cell, Seats, count, meter, standing
from tui.panels.training import Line, TrainingStrip


def titles(app: object, name: str) -> str:
    return str(app.screen.query_one(name).border_title)  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_eight_seats(cockpit: Open, snap_compare: Snap, size: tuple[int, int]) -> None:
    assert snap_compare(cockpit(fleet()), terminal_size=size, run_before=press("5", "right"))


def test_the_second_page_of_many_seats(cockpit: Open, snap_compare: Snap) -> None:
    assert snap_compare(cockpit(fleet(32)), terminal_size=SIZES["usual"], run_before=press("5", "pagedown"))


async def test_one_seat_has_no_grid(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert not app.screen.query_one(Seats).display
        assert titles(app, "#training").startswith("Training 7 · ")
        await pilot.press("5")
        await settle(pilot)
        said = [n.message for n in app._notifications]
        assert said == ["this run has one seat: the strip shows what trains there"]


async def test_the_strip_and_the_stop_key_follow_the_cursor(cockpit: Open) -> None:
    recording = Recorded(fleet().records)
    app = cockpit(recording)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert titles(app, "#training").startswith("Training 25 on seat 0 · ")
        await pilot.press("5", "down", "right")
        await settle(pilot)
        assert titles(app, "#training").startswith("Training 28 on seat 3 · ")
        await pilot.press("s")
        await settle(pilot)
        assert recording.sent == [ev.StopTraining(n=28, training=1)]
        await pilot.press("down")
        await settle(pilot)
        assert titles(app, "#training") == "Training on seat 5", "nothing trains there"


async def test_no_seat_trains_once_the_engine_has_stopped(cockpit: Open) -> None:
    app = cockpit(fleet().add(ev.EngineStopped("stopped by hand")))
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert titles(app, "#seats").startswith("Seats · 0 of 8 train")
        cells = [str(cell.query_one(".label", Line).content) for cell in app.screen.query(Cell)][:8]
        assert all("free" in cell for cell in cells)


async def test_a_click_chooses_a_seat_and_the_cursor_stays_on_the_grid(cockpit: Open) -> None:
    app = cockpit(fleet())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        seats = app.screen.query_one(Seats)
        await pilot.click(list(seats.query(Cell))[6])
        await settle(pilot)
        assert seats.seat == 6
        await pilot.press("5", "down", "down", "pagedown")
        assert seats.seat == 7
        await pilot.press("up", "left", "pageup", "pageup")
        assert seats.seat == 0


async def test_a_narrow_screen_pages_through(cockpit: Open) -> None:
    app = cockpit(fleet())
    async with app.run_test(size=SIZES["narrow"]) as pilot:
        await settle(pilot)
        assert titles(app, "#seats") == "Seats · 7 of 8 train · 1 to 3"
        await pilot.press("5", "pagedown", "pagedown")
        await settle(pilot)
        assert titles(app, "#seats") == "Seats · 7 of 8 train · 7 to 8"
        assert sum(cell.display for cell in app.screen.query(Cell)) == 2
        assert app.screen.query_one(TrainingStrip).display


def test_seats_of_an_engine_that_had_more_are_shown_as_long_as_they_train() -> None:
    state = RunState(engine=ev.EngineStarted(1, "0", "search", seats=2))
    assert count(state) == 2
    state.under_way = [ev.TrainingStarted(3, 1, "c", 1337, 300.0, seat=6)]
    assert count(state) == 7


def test_a_meter_says_the_phase_or_how_far_it_is_and_how_it_compares() -> None:
    assert meter(SeatView(), 300.0, []).plain == ""
    assert meter(SeatView(phase="compiling"), 300.0, []).plain == "compiling".rjust(METER)
    curve = [CurvePoint(0.1, 3.0), CurvePoint(0.5, 2.5)]
    half = SeatView(phase="training", progress=ev.Progress(fraction=0.5), curve=curve)
    reference = [CurvePoint(0.0, 4.0), CurvePoint(1.0, 2.0)]
    assert meter(half, 300.0, reference).plain == "━━━━────  50%  0.50 ahead"[: METER + 1].replace(
        "  0", "  0"
    )
    left = SeatView(phase="training", progress=ev.Progress(remaining_s=75.0))
    assert meter(left, 300.0, []).plain.startswith("━━━━━━──  75%")
    assert standing(curve, [CurvePoint(0.0, 2.0), CurvePoint(1.0, 2.0)]) == ("0.50 behind", "$discard")
    assert standing(curve, [CurvePoint(0.0, 2.5), CurvePoint(1.0, 2.5)]) == ("level", "$neutral")

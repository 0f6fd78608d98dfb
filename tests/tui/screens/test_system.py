"""The charts of the machine."""

from __future__ import annotations

import pytest

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import Recorded, Script, busy, night
from tui.lines import Lines
from tui.screens.system import SystemScreen, rows, title


@pytest.mark.parametrize(
    ("gpus", "size"),
    [
        (8, "usual"),
        pytest.param(1, "narrow", marks=pytest.mark.slow),
        pytest.param(16, "narrow", marks=pytest.mark.slow),
        pytest.param(0, "large", marks=pytest.mark.slow),
    ],
)
def test_looks(cockpit: Open, snap_compare: Snap, gpus: int, size: str) -> None:
    script = busy(Script().night(3), gpus)
    assert snap_compare(cockpit(script), terminal_size=SIZES[size], run_before=press("6"))


async def test_a_measurement_changes_the_charts_and_nothing_else_does(cockpit: Open) -> None:
    connection = Recorded(busy(night(), 1).records)
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("6")
        await settle(pilot)
        lines = pilot.app.screen.query_one(Lines)
        before = lines.items
        connection.push(ev.LogLines(25, 1, "a line"))
        await settle(pilot)
        assert lines.items is before
        connection.push(ev.Telemetry(99.0, 4.2, 24.0))
        await settle(pilot)
        assert [item.body.plain.split()[:1] for item in lines.items] == [["busy"], ["CPU"], ["engine"]]
        assert "99%" in lines.items[1].body.plain
        await pilot.press("6")
        assert not isinstance(pilot.app.screen, SystemScreen)


async def test_before_the_first_measurement_it_says_so(cockpit: Open) -> None:
    records = [r for r in night().records if not isinstance(r.event, ev.Telemetry)]
    async with cockpit(Recorded(records)).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("6")
        await settle(pilot)
        lines = pilot.app.screen.query_one(Lines)
        assert (lines.items, lines.empty) == ([], "nothing is measured yet")


@pytest.mark.parametrize("width", [40, 70, 116, 190, 900])
def test_no_row_is_wider_than_the_screen(width: int) -> None:
    found = rows(busy(Script().begin(), 8).state.live.measured, width)
    assert len(found) == 1 + 8 + 2
    assert max(row.cell_length for row in found) <= max(width, 67)


def test_charts_have_fixed_scales_and_now_stands_at_the_right() -> None:
    gpus = [ev.Gpu("H100", percent, 40.0, 80.0, 60.0, 350.0, 700.0) for percent in (0.0, 50.0, 100.0)]
    line = rows([ev.Telemetry(0.0, 1.0, 2.0, [gpu]) for gpu in gpus for _ in range(40)], 107)[1].plain
    assert line.startswith("GPU 0   ▁▁▁▁▂▅▅▅▅▇████ 100%  ▅▅▅▅▅▅▅▅▅▅▅▅▅▅    40/80 GB")
    short = rows([ev.Telemetry(100.0, 1.0, 2.0)] * 60, 107)[1].plain
    assert short.startswith("CPU" + " " * 12 + "███████ 100%"), "five minutes fill half a chart"


def test_the_title_counts_gpus_of_a_kind() -> None:
    gpus = [ev.Gpu("H100"), ev.Gpu("H100"), ev.Gpu("")]
    assert title(ev.Telemetry(0, 0, 0, gpus)) == "The engine's machine, last 10 minutes · 2 × H100 · GPU"

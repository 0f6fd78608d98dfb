"""The plot of all values."""

from __future__ import annotations

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import Recorded, Script, commit, training
from tui.panels.plot import EMPTY, Plot, best_so_far, window


def test_the_plot() -> None:
    points = [(1, "keep", 2.0), (2, "discard", 2.1), (3, "keep", 1.9), (4, "discard", 2.0)]
    assert best_so_far(points) == [(1, 2.0), (3, 2.0), (3, 1.9), (4, 1.9)]
    low, high = window([1.0] * 19 + [9.0], "min")
    assert low < 1.0 < high < 2.0


async def test_before_the_first_value_it_says_so(cockpit: Open) -> None:
    connection = Recorded(Script().begin().propose(1).train(1).records)
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        plot = pilot.app.screen.query_one(Plot)
        assert EMPTY in plot.render_line(0).text
        connection.push(ev.Judged(1, "keep", commit(1), 1.2, 60.0, "baseline"))
        await settle(pilot)
        assert EMPTY not in plot.render_line(0).text
        assert "1.2" in "".join(plot.render_line(y).text for y in range(plot.size.height))


async def test_it_is_drawn_again_only_when_a_value_came(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        plot = app.main.query_one(Plot)
        assert plot.border_title == "val_bpb, best so far"
        before = plot._drawn
        assert before is not None
        assert [n for n, _, _ in before[0]] == [1, 2, 3, 4, 6]  # 5 crashed: it has no value
        connection.push(ev.ExperimentStarted(8, commit(7)))
        await settle(pilot)
        assert plot._drawn is before
        connection.push(ev.Judged(7, "discard", commit(7), 1.2, 60.0, "discard: lower wins", 0.2))
        await settle(pilot)
        assert plot._drawn is not None
        assert plot._drawn[0][-1] == (7, "discard", 1.2)


async def test_a_value_that_no_training_means_is_not_drawn(cockpit: Open) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        connection.push(ev.Judged(7, "discard", commit(7), 1e300, 60.0, "unverified", 1e300))
        await settle(pilot)
        drawn = pilot.app.screen.query_one(Plot)._drawn
        assert drawn is not None
        assert [n for n, _, _ in drawn[0]] == [1, 2, 3, 4, 6]

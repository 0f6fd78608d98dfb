"""Loss curves in one picture."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual_plotext import PlotextPlot

from loop.events import CurvePoint
from tui.curves import Curve, draw


class Picture(App[None]):
    def compose(self) -> ComposeResult:
        yield PlotextPlot()


async def test_each_curve_is_named_and_one_without_points_left_out() -> None:
    points = [CurvePoint(i / 500, 5.0 - i / 200) for i in range(500)]
    async with Picture().run_test(size=(80, 24)) as pilot:
        plot = pilot.app.query_one(PlotextPlot)
        draw(plot, [Curve("#1", "orange", points), Curve("#2", "cyan", points[:1])])
        await pilot.pause()
        text = plot.plt.build()
        assert "#1" in text
        assert "#2" not in text
        assert "% of the budget" in text
        draw(plot, [])
        assert "#1" not in plot.plt.build()

"""Loss curves in one picture."""

from __future__ import annotations

import re

from textual.app import App, ComposeResult

from loop.events import CurvePoint
from tui.curves import GLYPHS, Curve, Curves


class Picture(App[None]):
    def compose(self) -> ComposeResult:
        yield Curves()


async def test_each_curve_is_named_and_one_without_points_left_out() -> None:
    points = [CurvePoint(i / 500, 5.0 - i / 200) for i in range(500)]
    async with Picture().run_test(size=(80, 24)) as pilot:
        plot = pilot.app.query_one(Curves)
        plot.show([Curve("#1", "orange", points), Curve("#2", "cyan", points[:1])])
        await pilot.pause()
        text = plot.plt.build()
        assert "#1" in text
        assert "#2" not in text
        assert "% of the budget" in text
        plot.show([])
        assert "#1" not in plot.plt.build()


async def test_curves_are_told_apart_without_colours_and_the_axes_are_round() -> None:
    points = [CurvePoint(i / 500, 5.0 - i / 200) for i in range(500)]
    async with Picture().run_test(size=(80, 24)) as pilot:
        plot = pilot.app.query_one(Curves)
        names = [f"#{n}" for n in range(1, len(GLYPHS) + 1)]
        plot.show([Curve(name, "red", points) for name in names])
        await pilot.pause()
        text = re.sub(r"\x1b\[[\d;]*m", "", plot.plt.build())
        for name, glyph in zip(names, GLYPHS, strict=True):
            assert f"{glyph}{glyph} {name}" in text
        assert re.search(r"0 +20 +40 +60 +80 +100", text)
        assert re.search(r"4\.0┤[^.]*3\.5┤[^.]*3\.0┤[^.]*2\.5┤", text, re.DOTALL)


async def test_losses_that_no_training_means_end_no_picture() -> None:
    """Drawn as they are, 1e12 beside 1 would fill the memory."""
    async with Picture().run_test(size=(80, 24)) as pilot:
        plot = pilot.app.query_one(Curves)
        for loss in (1e300, 1e12, 5e-324, 0.0, -1e308):
            points = [CurvePoint(0.1, 1.0), CurvePoint(0.3, 1.0), CurvePoint(0.5, loss)]
            plot.show([Curve("#1", "orange", points)])
            await pilot.pause()
            assert "#1" in plot.plt.build()

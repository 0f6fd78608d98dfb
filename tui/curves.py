"""Draws loss curves over the share of the budget, several in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

from textual_plotext import PlotextPlot

from loop.events import CurvePoint
from tui.panels.training import loss_at
from tui.ticks import LARGEST, ticks

GLYPHS = "●×■+◆○▲*"
"""Stand on the curves, in their order, and beside their names: they are told apart without colours, too."""
APART = 12
"""Share of the budget, in percent, between two glyphs of a curve."""


class Curve(NamedTuple):
    """One curve and how it is shown."""

    name: str
    color: str
    points: Sequence[CurvePoint]


class Curves(PlotextPlot):
    """A picture of loss curves, the last one in front. Those with fewer than two points are left out."""

    curves: Sequence[Curve] = ()

    def show(self, curves: Sequence[Curve]) -> None:
        drawn = (
            curve._replace(points=[p for p in curve.points if abs(p.loss) <= LARGEST]) for curve in curves
        )
        self.curves = [curve for curve in drawn if len(curve.points) > 1]
        self._draw()

    def on_resize(self) -> None:
        """How many numbers stand at the axes depends on the size."""
        self._draw()

    def _draw(self) -> None:
        plt = self.plt
        plt.clear_figure()
        self.theme = "clear" if self.app.current_theme.ansi else "auto"
        for curve in self.curves:
            points = _thin(curve.points, 2 * max(20, self.size.width))
            x, y = [100 * p.fraction for p in points], [p.loss for p in points]
            plt.plot(x, y, color=curve.color, marker="braille")
        for i, (curve, glyph) in enumerate(zip(self.curves, cycle(GLYPHS), strict=False)):
            last = 100 * curve.points[-1].fraction
            start = 4 + i * APART // len(self.curves)
            places = [float(x) for x in range(start, 100, APART) if x < last] or [last]
            losses = [loss_at(curve.points, x / 100) for x in places]
            plt.scatter(places, losses, label=curve.name, color=curve.color, marker=glyph)
        if self.curves:
            self._axes()
        self.refresh()

    def _axes(self) -> None:
        """The whole budget, and losses from the lowest one to those after a tenth of the budget."""
        ends = [min(p.loss for p in curve.points) for curve in self.curves]
        starts = [loss_at(curve.points, 0.1) for curve in self.curves]
        margin = 0.05 * (max(ends + starts) - min(ends + starts)) or 0.01
        low, high = min(ends + starts) - margin, max(ends + starts) + margin
        self.plt.xlim(0, 100)
        self.plt.xticks(*ticks(0, 100, max(3, self.size.width // 12)))
        self.plt.ylim(low, high)
        self.plt.yticks(*ticks(low, high, max(2, self.size.height // 3)))
        self.plt.xlabel("% of the budget")


def _thin(curve: Sequence[CurvePoint], most: int) -> Sequence[CurvePoint]:
    return curve[:: max(1, len(curve) // most)]

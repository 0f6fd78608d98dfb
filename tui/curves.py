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
        low, high = self._window()
        for curve in self.curves:
            points = _thin(curve.points, 2 * max(20, self.size.width))
            x, y = [100 * p.fraction for p in points], [_near(p.loss, low, high) for p in points]
            plt.plot(x, y, color=curve.color, marker="braille")
        for i, (curve, glyph) in enumerate(zip(self.curves, cycle(GLYPHS), strict=False)):
            last = 100 * curve.points[-1].fraction
            start = 4 + i * APART // len(self.curves)
            places = [float(x) for x in range(start, 100, APART) if x < last] or [last]
            losses = [_near(loss_at(curve.points, x / 100), low, high) for x in places]
            plt.scatter(places, losses, label=curve.name, color=curve.color, marker=glyph)
        if self.curves:
            self._axes(low, high)
        self.refresh()

    def _window(self) -> tuple[float, float]:
        """The losses that are seen: from the lowest one to those after a tenth of the budget."""
        if not self.curves:
            return 0.0, 1.0
        ends = [min(p.loss for p in curve.points) for curve in self.curves]
        starts = [loss_at(curve.points, 0.1) for curve in self.curves]
        margin = 0.05 * (max(ends + starts) - min(ends + starts)) or 0.01
        return min(ends + starts) - margin, max(ends + starts) + margin

    def _axes(self, low: float, high: float) -> None:
        self.plt.xlim(0, 100)
        self.plt.xticks(*ticks(0, 100, max(3, self.size.width // 12)))
        self.plt.ylim(low, high)
        self.plt.yticks(*ticks(low, high, max(2, self.size.height // 3)))
        self.plt.xlabel("% of the budget")


def _near(loss: float, low: float, high: float) -> float:
    """The loss, brought near to what is seen: plotext makes a point for each step of the way to it."""
    return min(max(loss, low - (high - low)), high + (high - low))


def _thin(curve: Sequence[CurvePoint], most: int) -> Sequence[CurvePoint]:
    return curve[:: max(1, len(curve) // most)]

"""Draws loss curves over the share of the budget, several in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual_plotext import PlotextPlot

from loop.events import CurvePoint
from tui.panels.training import loss_at


class Curve(NamedTuple):
    """One curve and how it is shown."""

    name: str
    color: str
    points: Sequence[CurvePoint]


def draw(plot: PlotextPlot, curves: Sequence[Curve]) -> None:
    """Draw the curves, the last one in front. Those with fewer than two points are left out."""
    plt = plot.plt
    plt.clear_figure()
    plot.theme = "clear" if plot.app.current_theme.ansi else "auto"
    lows: list[float] = []
    for curve in curves:
        if len(curve.points) > 1:
            points = _thin(curve.points, 2 * max(20, plot.size.width))
            plt.plot(
                [100 * p.fraction for p in points],
                [p.loss for p in points],
                label=curve.name,
                color=curve.color,
                marker="braille",
            )
            lows += [min(p.loss for p in curve.points), loss_at(curve.points, 0.1)]
    if lows:
        margin = 0.05 * (max(lows) - min(lows)) or 0.01
        plt.ylim(min(lows) - margin, max(lows) + margin)
        plt.xlabel("% of the budget")
    plot.refresh()


def _thin(curve: Sequence[CurvePoint], most: int) -> Sequence[CurvePoint]:
    return curve[:: max(1, len(curve) // most)]

"""val_bpb of every experiment, with the best so far as a step line."""

from __future__ import annotations

from textual.app import RenderResult
from textual.color import Color
from textual.content import Content
from textual_plotext import PlotextPlot

from loop.state import RunState
from tui.text import safe
from tui.ticks import LARGEST, ticks

Points = tuple[tuple[int, str, float], ...]
"""Number, phase and value of each judged experiment."""
EMPTY = "no value yet: each one becomes a point here"


class Plot(PlotextPlot, can_focus=True):
    """Is redrawn only when an experiment was judged or the colours have changed."""

    _state: RunState | None = None
    _drawn: tuple[Points, tuple[str, ...]] | None = None

    def show_state(self, state: RunState) -> None:
        self._state = state
        values = ((e.n, e.phase, e.value) for e in state.experiments if e.judged and e.value is not None)
        points = tuple(point for point in values if abs(point[2]) <= LARGEST)
        colors = tuple(self.app.theme_variables[meaning] for meaning in ("keep", "discard", "measure"))
        if (points, colors) != self._drawn:
            self._drawn = (points, colors)
            self.draw(points, state.direction, state.metric)

    def on_resize(self) -> None:
        """How many numbers stand at the axes depends on the size."""
        self._drawn = None
        if self._state is not None:
            self.show_state(self._state)

    def notify_style_update(self) -> None:
        """The colours of a new theme have arrived, which is some time after its name."""
        super().notify_style_update()
        if self._state is not None:
            self.show_state(self._state)

    def render(self) -> RenderResult:
        """The picture; before there is a value a sentence, as an empty frame says nothing."""
        if self._drawn is not None and not self._drawn[0]:
            return Content.styled(EMPTY, "$neutral")
        return super().render()

    def draw(self, points: Points, direction: str, metric: str) -> None:
        plt = self.plt
        plt.clear_figure()
        self.theme = "clear" if self.app.current_theme.ansi else "auto"  # else plotext draws black on black
        self.border_title = Content(f"{safe(metric)}, best so far")
        if points:
            low, high = window([value for _, _, value in points], direction)
            inside = [(n, phase, min(max(value, low), high)) for n, phase, value in points]
            steps = best_so_far(inside)
            if len(steps) > 1:
                plt.plot(
                    [n for n, _ in steps], [v for _, v in steps], color=self._rgb("measure"), marker="braille"
                )
            for phase, marker in (("discard", "×"), ("keep", "●")):
                xs = [n for n, p, _ in inside if p == phase]
                ys = [v for _, p, v in inside if p == phase]
                if xs:
                    plt.scatter(xs, ys, marker=marker, color=self._rgb(phase))
            first, last = points[0][0], points[-1][0]
            plt.xlim(first - (first == last), last + (first == last))
            plt.xticks(*ticks(first, last, max(2, self.size.width // 8), least=1))
            plt.ylim(low, high)
            plt.yticks(*ticks(low, high, max(2, self.size.height // 3)))
        self.refresh()

    def _rgb(self, meaning: str) -> tuple[int, int, int] | str:
        color = Color.parse(self.app.theme_variables[meaning])
        return {"keep": "green", "discard": "red", "measure": "orange"}[meaning] if color.ansi else color.rgb


def window(values: list[float], direction: str) -> tuple[float, float]:
    """The range of the axis, without the worst tenth: one bad value must not flatten all others."""
    ordered = sorted(values, reverse=direction == "max")
    best, far = ordered[0], ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    margin = 0.1 * abs(far - best) or 0.01
    low, high = min(best, far), max(best, far)
    return low - margin, high + margin


def best_so_far(points: list[tuple[int, str, float]]) -> list[tuple[int, float]]:
    """Corners of the step line through the kept experiments, drawn on to the newest experiment."""
    steps: list[tuple[int, float]] = []
    for n, phase, value in points:
        if phase == "keep":
            if steps:
                steps.append((n, steps[-1][1]))
            steps.append((n, value))
    if steps and points[-1][0] > steps[-1][0]:
        steps.append((points[-1][0], steps[-1][1]))
    return steps

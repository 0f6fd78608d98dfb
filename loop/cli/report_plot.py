"""The picture of a report: the results of all experiments in their order, as a PNG."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from loop.state import Experiment, RunState

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREEN, RED, AMBER, GRAY = "#2e9d57", "#c8504f", "#d6930f", "#8a93a6"
FONT = "DejaVu Sans"
"""It comes with matplotlib."""
NAMED = 25
"""So many of the last keeps have their description beside them."""


def hidden(e: Experiment) -> float | None:
    """Mean over its trainings of the metric on the hidden text, which no agent is told; None if unknown."""
    ended = [t.finished for t in e.trainings if t.finished and t.commit == e.commit]
    values = [found.hidden for found in ended if found.hidden is not None]
    return fmean(values) if values else None


def progress(state: RunState) -> bytes:
    """A point for each experiment with a value, a line for the best so far, words for the last keeps."""
    with contextlib.chdir(Path(__file__).parent):  # it obeys a matplotlibrc of the folder it is loaded in
        from matplotlib.figure import Figure  # it takes half a second to import

    figure = Figure(figsize=(11, 5.5), dpi=130)
    axes = figure.subplots()
    found = [(e, e.value) for e in state.experiments if e.judged and e.value is not None]
    keeps = [(e, value) for e, value in found if e.phase == "keep"]
    unseen = [(e, value) for e, _ in keeps if (value := hidden(e)) is not None]
    _points(axes, found)
    if keeps:
        xs, ys = _track(keeps)
        axes.step([*xs, found[-1][0].n], [*ys, ys[-1]], where="post", color=AMBER, linewidth=1.4,
                  label="best so far")  # fmt: skip
    if unseen:
        axes.step(*_track(unseen), where="post", color=GRAY, linestyle=":", marker=".",
                  label="keeps on the hidden text")  # fmt: skip
    for e, value in keeps[-NAMED:]:
        _name(axes, e, value)
    if found:
        values = sorted((value for _, value in found), reverse=state.direction == "max")
        axes.set_ylim(*_range(values, [value for _, value in unseen]))
        axes.legend(loc="upper right", fontsize=8)
    axes.set_xlabel("experiment")
    axes.set_ylabel(_drawable(state.metric), parse_math=False)
    axes.grid(alpha=0.2)
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _points(axes: Axes, found: list[tuple[Experiment, float]]) -> None:
    for phase, color, marker in (("discard", RED, "x"), ("keep", GREEN, "o")):
        xs, ys = _track([(e, value) for e, value in found if e.phase == phase])
        axes.scatter(xs, ys, c=color, marker=marker, s=26, label=phase)


def _track(found: list[tuple[Experiment, float]]) -> tuple[list[int], list[float]]:
    """The places of some experiments: their numbers and their values."""
    return [e.n for e, _ in found], [value for _, value in found]


def _name(axes: Axes, e: Experiment, value: float) -> None:
    words = e.description if len(e.description) < 44 else e.description[:43] + "…"
    axes.annotate(
        _drawable(f"#{e.n} {words}"), (e.n, value), xytext=(4, 7), textcoords="offset points", rotation=28,
        fontsize=6.5, color=GRAY, parse_math=False,
    )  # fmt: skip


def _range(values: list[float], more: list[float]) -> tuple[float, float]:
    """What the axis shows of some values, the best of them first: all but the worst tenth."""
    best, far = values[0], values[int(0.9 * (len(values) - 1))]
    margin = 0.15 * abs(far - best) or 0.01
    shown = [best, far, *more]
    return min(shown) - margin, max(shown) + 2 * margin


def _drawable(text: str) -> str:
    """The text with a box in place of each character that the font has not got."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont(FONT)).get_charmap()
    return "".join(c if ord(c) in known else "\u25af" for c in text)

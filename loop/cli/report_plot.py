"""The picture of a report: the results of all experiments in their order, as a PNG."""

from __future__ import annotations

import io
from statistics import fmean

from loop.state import Experiment, RunState

GREEN, RED, AMBER, GRAY = "#2e9d57", "#c8504f", "#d6930f", "#8a93a6"


def hidden(e: Experiment) -> float | None:
    """Mean over its trainings of the metric on the hidden text, which no agent is told; None if unknown."""
    ended = [t.finished for t in e.trainings if t.finished and t.commit == e.commit]
    values = [found.hidden for found in ended if found.hidden is not None]
    return fmean(values) if values else None


def progress(state: RunState) -> bytes:
    """A point for each experiment with a value, a line for the best so far, words for the last keeps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = [(e.n, e.value, e) for e in state.experiments if e.judged and e.value is not None]
    figure, axes = plt.subplots(figsize=(11, 5.5), dpi=130)
    for phase, color, marker in (("discard", RED, "x"), ("keep", GREEN, "o")):
        points = [(n, value) for n, value, e in found if e.phase == phase]
        axes.scatter(
            [n for n, _ in points], [v for _, v in points], c=color, marker=marker, s=26, label=phase
        )
    keeps = [(n, value, e) for n, value, e in found if e.phase == "keep"]
    if keeps:
        last = found[-1][0]
        xs, ys = [*(n for n, _, _ in keeps), last], [*(v for _, v, _ in keeps), keeps[-1][1]]
        axes.step(xs, ys, where="post", color=AMBER, linewidth=1.4, label="best so far")
    unseen = [(n, value) for n, _, e in keeps if (value := hidden(e)) is not None]
    if unseen:
        xs, ys = [n for n, _ in unseen], [value for _, value in unseen]
        axes.step(
            xs, ys, where="post", color=GRAY, linestyle=":", marker=".", label="keeps on the hidden text"
        )
    for n, value, e in keeps[-25:]:
        words = e.description if len(e.description) < 44 else e.description[:43] + "…"
        axes.annotate(
            f"#{n} {words}", (n, value), xytext=(4, 7), textcoords="offset points", rotation=28, fontsize=6.5,
            color=GRAY, parse_math=False,
        )  # fmt: skip
    if found:
        ordered = sorted((v for _, v, _ in found), reverse=state.direction == "max")
        best, far = ordered[0], ordered[int(0.9 * (len(ordered) - 1))]
        margin = 0.15 * abs(far - best) or 0.01
        shown = [best, far, *(value for _, value in unseen)]
        axes.set_ylim(min(shown) - margin, max(shown) + 2 * margin)
        axes.legend(loc="upper right", fontsize=8)
    axes.set_xlabel("experiment")
    axes.set_ylabel(state.metric, parse_math=False)
    axes.grid(alpha=0.2)
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png")
    plt.close(figure)
    return out.getvalue()

"""Pure functions that write numbers, phases and foreign text as the screen shows them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from loop.events import Limits, TrainingFinished
from loop.state import Experiment, RunState

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""A terminal would obey them."""
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of what is invisible, turns text around or is no character."""
FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
"""Letters and marks that show nothing and may take columns all the same."""
MARKS_MOST = 4
"""Marks that may stand on one letter: written languages need three, a thousand cover the lines around."""
LONGEST = 2000
"""Characters of one line that are shown: no screen holds more, and to wrap a very long line takes long."""

SYMBOLS = {
    "proposing": ("◌", "$agent"),
    "waiting": ("?", "$measure"),
    "queued": ("·", "$neutral"),
    "training": ("●", "$training"),
    "judging": ("◆", "$measure"),
    "keep": ("✓", "$keep"),
    "discard": ("✗", "$discard"),
    "crash": ("!", "$discard"),
    "rejected": ("–", "$neutral"),
    "starting": ("◌", "$neutral"),
    "preparing": ("◌", "$neutral"),
    "paused": ("‖", "$measure"),
    "stopped": ("■", "$neutral"),
    "connecting": ("◌", "$measure"),
}
"""Symbol and colour of each phase. The phase's name always stands beside them."""


def safe(text: str) -> str:
    """Text of an agent or a trainer without what a terminal obeys, with no line longer than `LONGEST`."""
    text = CONTROL.sub("", text.replace("\r\n", "\n").replace("\t", "    "))
    text = text if text.isascii() else _visible(text)
    if len(text) <= LONGEST:
        return text
    return "\n".join(
        line if len(line) <= LONGEST else f"{line[:LONGEST]} … ({len(line) - LONGEST:,} more characters)"
        for line in text.split("\n")
    )


def _visible(text: str) -> str:
    """Text without hidden characters, and with few marks stacked on one letter."""
    kinds = {c: unicodedata.category(c) for c in set(text) - {"\n"}}
    hidden = [ord(c) for c, kind in kinds.items() if kind in HIDDEN or c in FILLERS]
    text = text.translate(dict.fromkeys(hidden))
    marks = "".join(c for c, kind in kinds.items() if kind in ("Mn", "Me") and c not in FILLERS)
    return re.sub(f"([{marks}]{{{MARKS_MOST}}})[{marks}]+", r"\1", text) if marks else text


def clock(seconds: float) -> str:
    """Seconds as `4:59`, from an hour on as `1:02:03`."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def short(number: float) -> str:
    """A number with at most three digits: `950`, `12.3k`, `1.69M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def metric(value: float | None) -> str:
    """The metric with four digits; results.tsv has two more."""
    return "–" if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def phase_now(e: Experiment, state: RunState) -> str:
    """The experiment's phase; `stopped` when the engine has stopped in the middle of it."""
    cut_off = state.stopped is not None and e.phase in ("proposing", "training", "judging")
    return "stopped" if cut_off else e.phase


def improves(e: Experiment, state: RunState) -> bool:
    """Whether its value is better than that of the incumbent which it is compared with."""
    return e.delta is not None and state.better(e.delta, 0.0)


def gain(state: RunState) -> str:
    """How far the incumbent is from the baseline, e.g. `-2.83%`; empty while they are the same."""
    if state.best is None or not state.baseline or state.best == state.baseline:
        return ""
    return f"{100 * (state.best / state.baseline - 1):+.2f}%"


def limits_line(limits: Limits) -> str:
    """The limits as the line of text that the engine takes: `experiments 100, until val_bpb < 1.2`."""
    found = {
        "experiments": limits.max_experiments,
        "hours": limits.max_hours,
        "cost": limits.max_cost,
        "crashes": limits.max_crashes,
        "until": limits.until or None,
    }
    words = (
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in found.items()
        if value is not None
    )
    return ", ".join(words)


def cut(text: str, width: int) -> str:
    """The text in at most `width` characters; an ellipsis stands where something is left out."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)].rstrip()}…"


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def spark(values: Sequence[float], width: int, low: float | None = None, high: float | None = None) -> str:
    """The curve in at most `width` block characters, from `low` to `high` or scaled to its own range."""
    if not values or width < 1:
        return ""
    cells = _resample(values, min(width, len(values)))
    low = min(cells) if low is None else low
    span = ((max(cells) if high is None else high) - low) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[max(0, min(7, int(8 * (v - low) / span)))] for v in cells)


def _resample(values: Sequence[float], count: int) -> list[float]:
    """The means of `count` pieces of equal length."""
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def ended(event: TrainingFinished) -> str:
    """How a training ended, in a few words: `training 2 measured 0.9822`."""
    if event.outcome == "finished" and event.value is not None:
        return f"training {event.training} measured {metric(event.value)}"
    return f"training {event.training} {event.outcome}" + (f": {event.reason}" if event.reason else "")


def title(e: Experiment) -> str:
    """An experiment's description, or a placeholder while the agent still thinks about it."""
    return safe(e.description) or {"proposing": "thinking …"}.get(e.phase, "")

"""Pure functions that write numbers, phases and foreign text as the screen shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from loop.state import Experiment, RunState

UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters: a terminal would obey them
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"  # invisible, or turns text around
)
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
    """Text of an agent or a trainer without control characters and with no line longer than `LONGEST`."""
    text = UNSAFE.sub("", text.replace("\r\n", "\n").replace("\t", "    "))
    if len(text) <= LONGEST:
        return text
    return "\n".join(
        line if len(line) <= LONGEST else f"{line[:LONGEST]} … ({len(line) - LONGEST:,} more characters)"
        for line in text.split("\n")
    )


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


def gain(state: RunState) -> str:
    """How far the incumbent is from the baseline, e.g. `-2.83%`; empty while they are the same."""
    if state.best is None or not state.baseline or state.best == state.baseline:
        return ""
    return f"{100 * (state.best / state.baseline - 1):+.2f}%"


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def spark(values: Sequence[float], width: int) -> str:
    """The curve in at most `width` block characters, scaled to its own range."""
    if not values or width < 1:
        return ""
    cells = _resample(values, min(width, len(values)))
    low, high = min(cells), max(cells)
    span = (high - low) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * (v - low) / span))] for v in cells)


def _resample(values: Sequence[float], count: int) -> list[float]:
    """The means of `count` pieces of equal length."""
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def title(e: Experiment) -> str:
    """An experiment's description, or a placeholder while the agent still thinks about it."""
    return safe(e.description) or {"proposing": "thinking …"}.get(e.phase, "")

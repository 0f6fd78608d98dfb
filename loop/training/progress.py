"""Parses what a trainer prints: progress lines, phases, and the summary at the end.

All functions are pure. Whatever text they get, none of them raises.
"""

from __future__ import annotations

import math
import re

from msgspec import structs

from loop.events import Progress
from loop.text import clean

_STEP = re.compile(
    r"^\s*step\s+([0-9]{1,12})\b\s*(?:\(\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*%\s*\))?", re.IGNORECASE
)
_PHASE = re.compile(r"^phase:\s*([a-z][a-z ]{0,30})$")
_SUMMARY = re.compile(r"^([A-Za-z_][\w.]{0,60}):\s+(\S.{0,200})$")
_NUMBER = re.compile(r"[-+]?(?:[0-9][0-9,]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")

_NAMES = {
    "loss": "loss",
    "lrm": "lrm",
    "dt": "dt_ms",
    "tok/sec": "tokens_per_s",
    "mfu": "mfu_percent",
    "epoch": "epoch",
    "remaining": "remaining_s",
}


def number(text: str) -> float | None:
    """The leading number of `1,690,000`, `310ms`, `39.8%`, `nan`; None when there is none."""
    text = text.strip()
    if text.lower().lstrip("+-").startswith(("nan", "inf")):
        return float(text[:4].rstrip() if text[0] in "+-" else text[:3])
    match = _NUMBER.match(text)
    return float(match.group().replace(",", "")) if match else None


def parse(line: str) -> Progress | None:
    """A progress line (docs/formats.md), or None. Unknown fields are kept, missing ones None."""
    match = _STEP.match(line)
    if not match or "|" not in line:
        return None
    values: dict[str, float] = {}
    extra: dict[str, str] = {}
    for part in line.split("|")[1:]:
        name, separator, text = part.partition(":")
        name, text = name.strip(), text.strip()
        value = number(text) if separator else None
        if name in _NAMES and value is not None:
            values[_NAMES[name]] = value * 1000 if name == "dt" and re.search(r"\d\s*s$", text) else value
        elif separator and name and len(extra) < 20:
            extra[name[:40]] = text[:80]
    percent = float(match.group(2)) if match.group(2) else 0.0
    progress = Progress(step=int(match.group(1)), fraction=min(percent / 100, 1.0), extra=extra)
    return structs.replace(progress, **values)


def parse_phase(line: str) -> str | None:
    """`evaluating` for the line `phase: evaluating`."""
    match = _PHASE.match(line.strip())
    return match.group(1) if match else None


def parse_summary(log: str) -> dict[str, float | str]:
    """The `key: value` lines after the last line `---`; empty when the trainer never got there.

    The supervisor prints the phase of the judgement after them: that is no part of the summary.

    Numbers that are not finite stay text: JSON, and so the journal, has no way to write them.
    """
    _, separator, tail = ("\n" + clean(log)).rpartition("\n---\n")
    if not separator:
        return {}
    summary: dict[str, float | str] = {}
    for line in tail.splitlines():
        match = _SUMMARY.match(line.strip())
        if match and len(summary) < 64 and not parse_phase(line):
            text = match.group(2).strip()
            value = number(text)
            summary[match.group(1)] = text if value is None or not math.isfinite(value) else value
    return summary


def metric(summary: dict[str, float | str], name: str) -> float | None:
    """The finite metric of a summary, or None."""
    value = summary.get(name)
    return value if isinstance(value, float) and math.isfinite(value) else None

"""Reads the results.tsv of another tool: karpathy/autoresearch's, and those of its many variants.

The original has the columns commit, val_bpb, memory_gb, status and description. Variants have another metric
in the second column, leave memory out, add columns of their own, and have other words for a status.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from loop import events as ev
from loop.errors import UsageError
from loop.records import results
from loop.records.shaped_file import read_shaped
from loop.text import clean, one_line

MOST = 64 * 2**20
"""Bytes that such a file may have."""
WORDS: dict[str, ev.Status] = {
    **dict.fromkeys(("keep", "kept", "baseline", "accept", "accepted", "improved"), "keep"),
    **dict.fromkeys(("discard", "discarded", "reject", "rejected", "revert", "reverted"), "discard"),
    **dict.fromkeys(("crash", "crashed", "fail", "failed", "error", "timeout", "oom"), "crash"),
}
"""What a status may be called."""
MEMORY = {"memory_gb": 1.0, "peak_vram_gb": 1.0, "memory_mb": 1024.0, "peak_vram_mb": 1024.0}
"""Columns with the peak memory, and how many of their units are a GB."""


class Row(Struct, frozen=True):
    """One experiment of another tool."""

    line: int
    """Where it stands in the file, counted from 1."""
    commit: str
    """Mostly 7 hex digits; empty where something else stands, such as `baseline`."""
    value: float | None
    """None for a crash."""
    memory_gb: float
    status: ev.Status
    description: str
    more: dict[str, float | str]
    """What stands in further columns, by their names."""


class Table(Struct, frozen=True):
    """A whole results.tsv."""

    metric: str
    rows: list[Row]

    @property
    def highest_is_best(self) -> bool:
        """Whether the tool kept what was higher: more of its keeps rose than fell."""
        kept = [row.value for row in self.rows if row.status == "keep" and row.value is not None]
        rises = sum(after > before for before, after in pairwise(kept))
        falls = sum(after < before for before, after in pairwise(kept))
        return rises > falls


def read(path: Path) -> Table:
    """Read the file. Raises `UsageError` with the line and what is wrong with it."""
    content = read_shaped(path, MOST)
    if content is None:
        what = "is no plain file of at most 64 MB that can be read" if path.exists() else "is not there"
        raise UsageError(f"{path} {what}: name a results.tsv")
    try:
        return parse(content.decode("utf-8-sig", "replace"))
    except UsageError as error:
        raise UsageError(f"{path}{error}") from None


def parse(text: str) -> Table:
    """The table in a text. Raises `UsageError`, whose message begins behind the file's name."""
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UsageError(" is empty: there is nothing to import")
    names = _names(lines[0][1])
    rows = [_row(number, line, names) for number, line in (lines[1:] if names else lines)]
    if not rows:
        raise UsageError(" has a header and no rows: there is nothing to import")
    names = names or list(results.COLUMNS)
    return Table(names[1], rows)


def _names(line: str) -> list[str]:
    """The columns that a header names; empty when the line is no header. Raises `UsageError`."""
    names = [one_line(cell, 80).lower() for cell in line.split("\t")]
    if len(names) == 1:
        hint = "commas" if "," in line else "no tabs"
        raise UsageError(f", line 1: columns must have tabs between them, and here are {hint}")
    if not {"status", "commit"} & set(names):
        return []
    missing = [name for name in ("commit", "status", "description") if name not in names]
    if missing:
        raise UsageError(f", line 1: there is no column {missing[0]}")
    if names.index("commit") != 0 or names[1] in ("status", "description", *MEMORY):
        raise UsageError(", line 1: the columns must begin with commit and the metric")
    return names


def _row(number: int, line: str, names: list[str]) -> Row:
    """The row in a line with these columns; without names, those of the original. Raises `UsageError`."""
    columns = names or list(results.COLUMNS)
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) < len(columns):
        raise UsageError(f", line {number}: it has {len(cells)} columns, not {len(columns)}")
    found = dict(zip(columns, cells, strict=False))
    status = WORDS.get(found["status"].lower())
    if status is None:
        shown = one_line(found["status"], 40)
        raise UsageError(f", line {number}: status {shown!r} is not keep, discard or crash")
    value = None if status == "crash" else _number(found[columns[1]])
    if status != "crash" and value is None:
        shown = one_line(found[columns[1]], 40)
        raise UsageError(f", line {number}: {columns[1]} {shown!r} is not a number")
    memory = next((name for name in columns if name in MEMORY), "")
    size = (_number(found[memory]) or 0.0) / MEMORY[memory] if memory else 0.0
    known = {"commit", columns[1], "status", "description", memory}
    more = {
        name: text if (n := _number(text)) is None else n
        for name, text in ((name, clean(cell)) for name, cell in found.items() if name not in known)
        if name and text
    }
    commit = found["commit"].lower()
    commit = commit if re.fullmatch("[0-9a-f]{4,40}", commit) else ""
    return Row(number, commit, value, size, status, one_line(found["description"], 1000), more)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

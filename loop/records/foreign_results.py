"""Reads the results.tsv of another tool: karpathy/autoresearch's, and those of its many variants.

The original has the columns commit, val_bpb, memory_gb, status and description. Variants have another metric,
leave memory out, add columns of their own, have other words for a status, and notes below the table. What is
understood is read; what is not is counted, so that it can be said.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain, pairwise, repeat
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from loop import events as ev
from loop.errors import UsageError
from loop.records import results
from loop.records.shaped_file import read_shaped
from loop.text import clean, one_line

MOST = 64 * 2**20
"""Bytes that such a file may have."""
ROWS_MOST, COLUMNS_MOST = 100_000, 200
"""Lines and columns that are read: a header with a million columns asks for as many cells in each line."""
KEEPS = ("keep", "kept", "baseline", "accept", "accepted", "adopt", "adopted", "best", "improved")
DISCARDS = ("discard", "discarded", "reject", "rejected", "revert", "reverted", "worse")
CRASHES = ("crash", "crashed", "fail", "failed", "error", "timeout", "oom")
WORDS: dict[str, ev.Status] = {
    **dict.fromkeys(KEEPS, "keep"),
    **dict.fromkeys(DISCARDS, "discard"),
    **dict.fromkeys(CRASHES, "crash"),
}
"""What a status may begin with."""
DESCRIPTIONS = ("description", "hypothesis", "idea", "change", "notes")
"""What the column may be called that says what was tried."""
MEMORY = {"memory_gb": 1.0, "peak_vram_gb": 1.0, "memory_mb": 1024.0, "peak_vram_mb": 1024.0}
"""Columns with the peak memory, and how many of their units are a GB."""
METRIC = "val_bpb"
"""The metric where there is such a column; else it is the first with numbers whose name looks like one, else
the first with numbers."""
_LOOKS_LIKE_ONE = re.compile(r"^val_|loss|bpb|ppl|perplexity|acc|score|rmse|mae|psnr|fid|f1|error|reward")


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
    left_out: list[int]
    """The lines that are no experiments: notes of a human, or rows of another table below the first one."""
    unknown: dict[str, int]
    """Words for a status that are not known here, and how many rows have them. They count as discarded."""

    @property
    def highest_is_best(self) -> bool:
        """Whether the tool kept what was higher."""
        return _rises(self.rows)


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
    if len(lines) > ROWS_MOST:
        raise UsageError(f" has more than {ROWS_MOST:,} lines: import a part of it")
    if not lines:
        raise UsageError(" is empty: there is nothing to import")
    names = _names(lines[0][1])
    if names and len(lines) == 1:
        raise UsageError(" has a header and no rows: there is nothing to import")
    body = [(number, _cells(line, names or results.COLUMNS)) for number, line in lines[bool(names) :]]
    metric = _metric(names or results.COLUMNS, [cells for _, cells in body])
    found = {number: _row(number, cells, metric) for number, cells in body}
    rows = [row for row in found.values() if row]
    if not rows:
        number, cells = body[0]
        value, status = (one_line(cells[name], 40) for name in (metric, "status"))
        raise UsageError(
            f", line {number}: {metric} {value!r} is not a number, "
            f"and status {status!r} is not keep, discard or crash"
        )
    if not _rises(rows):
        rows = [_without_zero(row) for row in rows]
    words = Counter(
        str(row.more["status"]) for row in rows if row.status == "discard" and "status" in row.more
    )
    return Table(metric, rows, [number for number, row in found.items() if row is None], dict(words))


def _rises(rows: list[Row]) -> bool:
    """Whether more of the keeps rose than fell."""
    kept = [row.value for row in rows if row.status == "keep" and row.value is not None]
    rises = sum(after > before for before, after in pairwise(kept))
    falls = sum(after < before for before, after in pairwise(kept))
    return rises > falls


def _without_zero(row: Row) -> Row:
    """Where low is best, the zero of what was not kept stands for no number, as in the original."""
    if row.value != 0 or row.status == "keep":
        return row
    return replace(row, value=None, status="crash")


def _names(line: str) -> list[str]:
    """The columns that a header names; empty when the line is no header. Raises `UsageError`."""
    if line.count("\t") >= COLUMNS_MOST:
        raise UsageError(f", line 1: there are more than {COLUMNS_MOST} columns: leave some out")
    names = [one_line(cell, 80).lower() for cell in line.split("\t")]
    if len(names) == 1:
        hint = "commas" if "," in line else "no tabs"
        raise UsageError(f", line 1: columns must have tabs between them, and here are {hint}")
    if not {"status", "commit"} & set(names):
        return []
    described = next((name for name in DESCRIPTIONS if name in names), None)
    if described:
        names[names.index(described)] = "description"
    missing = [name for name in ("commit", "status", "description") if name not in names]
    if missing:
        raise UsageError(f", line 1: there is no column {missing[0]}")
    return names


def _cells(line: str, names: Sequence[str]) -> dict[str, str]:
    """The cells of a line by their columns; those that are missing at its end are empty."""
    return dict(zip(names, chain((cell.strip() for cell in line.split("\t")), repeat("")), strict=False))


def _metric(names: Sequence[str], lines: list[dict[str, str]]) -> str:
    """The column with what is judged by. Raises `UsageError` where there is none."""
    if METRIC in names:
        return METRIC
    others = [name for name in names if name not in ("commit", "status", "description", *MEMORY)]
    ended = [cells for cells in lines if _status(cells) != "crash"] or lines
    full = [n for n in others if sum(_number(cells[n]) is not None for cells in ended) > len(ended) / 2]
    found = next((name for name in full if _LOOKS_LIKE_ONE.search(name)), next(iter(full), None))
    if found is None:
        raise UsageError(", line 1: no column has numbers, so there is nothing to judge by")
    return found


def _status(cells: dict[str, str]) -> ev.Status | None:
    """The status by the word that the cell begins with; None where it is not known."""
    word = re.match("[a-z]*", cells["status"].lower())
    return WORDS.get(word[0] if word else "")


def _row(number: int, cells: dict[str, str], metric: str) -> Row | None:
    """The row with these cells; None where they have neither a number nor a status that is known."""
    status, value = _status(cells), _number(cells[metric])
    if status is None and value is None:
        return None
    known = {"commit", metric, "description", *([] if status is None else ["status"])}
    memory = next((name for name in cells if name in MEMORY), "")
    more = {
        name: text if (n := _number(text)) is None else n
        for name, text in (
            (name, clean(cell)) for name, cell in cells.items() if name not in {*known, memory}
        )
        if name and text
    }
    status = status or "discard"
    if value is None:
        status = "crash"
    size = (_number(cells[memory]) or 0.0) / MEMORY[memory] if memory else 0.0
    commit = cells["commit"].lower()
    commit = commit if re.fullmatch("[0-9a-f]{4,40}", commit) else ""
    return Row(
        number,
        commit,
        None if status == "crash" else value,
        size,
        status,
        one_line(cells["description"], 1000),
        more,
    )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

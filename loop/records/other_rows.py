"""Rows of results.tsv that this run did not write: of earlier tags, of other tools. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import get_args

from loop import events as ev
from loop.records.results import HEADER
from loop.state import Experiment, RunState


def rows(lines: Iterable[str], state: RunState) -> list[str]:
    """The lines without the header and without this run's own."""
    own = Counter(e.row for e in state.experiments if e.judged)
    found = []
    for line in lines:
        if own[line]:
            own[line] -= 1
        elif line.strip() and line != HEADER:
            found.append(line)
    return found


def experiments(rows: list[str]) -> list[Experiment]:
    """Each row as an experiment of which no more is known, numbered -1 (the last), -2, ...

    Rows that do not have the five columns are left out. autoresearch writes `baseline` for a commit.
    """
    found: list[Experiment] = []
    for index, row in enumerate(rows):
        cells = row.split("\t")
        if len(cells) < 5 or cells[3] not in get_args(ev.Status):
            continue
        commit, value, memory, status, description = cells[:5]
        measured = None if status == "crash" else _number(value)
        found.append(
            Experiment(
                n=index - len(rows),
                parent="",
                phase=status,  # type: ignore[arg-type]  # checked above
                commit=commit,
                verdict=ev.Judged(0, status, commit, measured, _number(memory) or 0.0, ""),  # type: ignore[arg-type]
                value=measured,
                description=description,
                logged=True,
            )
        )
    return found


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

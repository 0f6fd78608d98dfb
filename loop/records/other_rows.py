"""Rows of results.tsv that this run did not write: rows of earlier tags and of other tools. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from loop.records import results
from loop.state import Experiment, RunState


def rows(lines: Iterable[str], state: RunState) -> list[str]:
    """The lines of results.tsv (`results.lines`) without the header and without this run's own rows.

    Each of our rows hides one equal line; further equal lines are others'.
    """
    own = Counter(e.row for e in state.experiments if e.judged)
    found = []
    for line in lines:
        if own[line]:
            own[line] -= 1
        elif line.strip() and line != results.HEADER:
            found.append(results.readable(line))
    return found


def experiments(rows: list[str]) -> list[Experiment]:
    """Each row as an experiment of which no more is known, numbered -1 (the last), -2, ...

    Lines that are not rows are left out.
    """
    found = []
    for index, line in enumerate(rows):
        if row := results.parse(line):
            found.append(
                Experiment(
                    n=index - len(rows),
                    parent="",
                    phase=row.status,
                    commit=row.commit,
                    memory_gb=row.memory_gb or 0.0,
                    value=row.val_bpb,
                    description=row.description,
                    logged=True,
                )
            )
    return found

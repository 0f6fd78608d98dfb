"""Near misses put together: what is too small to be told from luck alone may be clear in sum. Pure."""

from __future__ import annotations

import ast
from collections.abc import Callable

from loop import merge
from loop.agents.base import Proposal
from loop.state import Experiment


def combine(
    read: Callable[[str], str], path: str, incumbent: str, misses: list[Experiment]
) -> tuple[Proposal, list[int]] | None:
    """A proposal of all near misses whose changes fit onto the incumbent commit, and their numbers.

    `read` gives the editable file of a commit. The best go first, as a later change of the same lines does
    not fit any more. None when fewer than two fit.
    """
    source, taken = read(incumbent), list[Experiment]()
    for e in sorted(misses, key=lambda e: abs(e.delta or 0), reverse=True):
        merged = merge.merge(read(e.parent), source, read(e.commit))
        if merged and merged != source and (not path.endswith(".py") or _parses(merged)):
            source, taken = merged, [*taken, e]
    if len(taken) < 2:
        return None
    taken.sort(key=lambda e: e.n)
    numbers = [e.n for e in taken]
    names = ", ".join(f"#{n}" for n in numbers)
    what = "; ".join(e.description for e in taken)
    description = f"combine {names}: {what}"
    why = "Each of these was better, but by less than the noise lets one tell. Together they may be clear."
    return Proposal(
        description if len(description) <= 300 else f"{description[:297]}...", source, why
    ), numbers


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True

"""Which hyperparameters a keep of another agent has moved: `search` tunes these first.

A structural change shifts what is best for the hyperparameters that it touches, and it brings new ones whose
values nobody has tried. It reads past sources from the archive; otherwise it is pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from loop.agents import hyperparameters, program
from loop.agents.base import ResearchContext
from loop.experiment import Experiment

TUNED = 2
"""After a keep of another agent, `search` tunes it in so many experiments."""
SEARCH = "search"
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]*\b")


def due(experiments: Sequence[Experiment], incumbent: int | None) -> bool:
    """Whether the incumbent is another agent's, and `search` has hardly varied it yet."""
    kept = next((e for e in experiments if e.n == incumbent), None)
    if kept is None or kept.agent in ("", SEARCH):
        return False
    return sum(e.agent == SEARCH and e.parent == kept.commit for e in experiments) < TUNED


def moved(context: ResearchContext) -> frozenset[str]:
    """Names of the hyperparameters that the incumbent has moved, when it is due to be tuned; else none.

    These are the ones in the lines that it has changed; where there is none, those in the statements."""
    if not due([e for e in context.experiments if e.n != context.n], context.incumbent):
        return frozenset()
    kept = next(e for e in context.experiments if e.n == context.incumbent)
    parent = context.parent(kept)
    if parent is None:
        return frozenset()
    return named_in_change(context.archive.source(parent.n), context.source, context.device)


def named_in_change(before: str, after: str, device: str = "cpu") -> frozenset[str]:
    """Hyperparameters of a source in the lines that differ from an earlier one, or in their statements."""
    names = {h.name for h in hyperparameters.find(after, device)}
    try:
        old, new = program.statements(before), program.statements(after)
    except program.UNREADABLE:
        return frozenset()
    known = {statement.text for statement in old}
    texts = [statement.text for statement in new if statement.text not in known]
    lines = set(before.splitlines())
    changed = [line for text in texts for line in text.splitlines() if line not in lines]
    return frozenset(_names(changed) & names or _names(texts) & names)


def _names(texts: Sequence[str]) -> set[str]:
    return {name for text in texts for name in _NAME.findall(text)}

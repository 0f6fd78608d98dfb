"""Three-way merge of one text file, by lines. Pure."""

from __future__ import annotations

from difflib import SequenceMatcher

Change = tuple[int, int, list[str]]
"""Lines [start, end) of the base become these."""


def merge(base: str, ours: str, theirs: str) -> str | None:
    """`theirs`' changes to `base` applied to `ours`; None when both changed the same or touching lines.

    The same change made on both sides is taken once.
    """
    lines = base.splitlines(keepends=True)
    changes = _changes(lines, ours.splitlines(keepends=True))
    for change in _changes(lines, theirs.splitlines(keepends=True)):
        if change in changes:
            continue
        if any(change[0] <= other[1] and other[0] <= change[1] for other in changes):
            return None
        changes.append(change)
    merged = list(lines)
    for start, end, text in sorted(changes, key=lambda c: c[:2], reverse=True):
        merged[start:end] = text
    return "".join(merged)


def count(before: str, after: str) -> tuple[int, int]:
    """Added and removed lines."""
    added = removed = 0
    for start, end, text in _changes(before.splitlines(), after.splitlines()):
        added, removed = added + len(text), removed + end - start
    return added, removed


def _changes(base: list[str], other: list[str]) -> list[Change]:
    matcher = SequenceMatcher(None, base, other, autojunk=False)
    return [(a, b, other[c:d]) for op, a, b, c, d in matcher.get_opcodes() if op != "equal"]

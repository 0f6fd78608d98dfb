"""Three-way merge of one text file, by lines. Pure."""

from __future__ import annotations

from difflib import SequenceMatcher

Change = tuple[int, int, list[str]]
"""start, end, lines: the lines [start, end) of the base become these lines."""


def merge(base: str, ours: str, theirs: str) -> str | None:
    """The changes that `theirs` makes to `base`, applied to `ours`.

    None when both change the same line or lines that touch. A change that both make is applied once.
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
    # From the end to the beginning: so the line numbers of the changes still to come stay right.
    for start, end, text in sorted(changes, key=lambda c: c[:2], reverse=True):
        merged[start:end] = text
    return "".join(merged)


def count(before: str, after: str) -> tuple[int, int]:
    """How many lines `after` adds to `before`, and how many it removes."""
    added = removed = 0
    for start, end, text in _changes(before.splitlines(), after.splitlines()):
        added, removed = added + len(text), removed + end - start
    return added, removed


def _changes(base: list[str], other: list[str]) -> list[Change]:
    matcher = SequenceMatcher(None, base, other, autojunk=False)
    return [(a, b, other[c:d]) for op, a, b, c, d in matcher.get_opcodes() if op != "equal"]

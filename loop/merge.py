"""Three-way merge of one text file, by lines. Pure."""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher

Change = tuple[int, int, list[str]]
"""start, end, lines: the lines from `start` up to but without `end` of the base become these lines."""
PAIRS_MOST = 2_000_000
"""Pairs of equal lines that are all compared; about a second of work."""


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
    """The smallest changes found that turn `base` into `other`.

    What both have in common at their beginning and end is set aside first. difflib compares every two equal
    lines of the rest, which for thousands of blank lines takes hours: where that would be too many pairs, it
    ignores lines that occur often.
    """
    start = 0
    while start < min(len(base), len(other)) and base[start] == other[start]:
        start += 1
    end = 0
    while end < min(len(base), len(other)) - start and base[-1 - end] == other[-1 - end]:
        end += 1
    ours, theirs = base[start : len(base) - end], other[start : len(other) - end]
    counts = Counter(theirs)
    pairs = sum(counts[line] for line in ours)
    matcher = SequenceMatcher(None, ours, theirs, autojunk=pairs > PAIRS_MOST)
    return [(start + a, start + b, theirs[c:d]) for op, a, b, c, d in matcher.get_opcodes() if op != "equal"]

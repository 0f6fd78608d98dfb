"""The difference between two versions of a file, as rows for the screen; pure functions."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

Span = tuple[int, int]
_WORDS = re.compile(r"\w+|\s+|.")


class Row(NamedTuple):
    """One row: an unchanged, removed or added line, or `@` for lines left out.

    `old` and `new` count from 1; `changed` are the character ranges that differ from the line's partner.
    """

    kind: Literal[" ", "-", "+", "@"]
    old: int | None
    new: int | None
    text: str
    changed: tuple[Span, ...] = ()


def rows(before: str, after: str, context: int = 3) -> list[Row]:
    """The rows of a unified diff: removed lines before added ones, with `context` unchanged lines around."""
    a, b = before.splitlines(), after.splitlines()
    found: list[Row] = []
    for group in SequenceMatcher(None, a, b, autojunk=False).get_grouped_opcodes(context):
        first = group[0]
        if first[1] > 0 or first[3] > 0:
            found.append(Row("@", first[1] + 1, first[3] + 1, f"line {first[3] + 1}"))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                found += [Row(" ", i + 1, j1 + i - i1 + 1, a[i]) for i in range(i1, i2)]
            else:
                found += _change(a, b, i1, i2, j1, j2)
    return found


def _change(a: list[str], b: list[str], i1: int, i2: int, j1: int, j2: int) -> list[Row]:
    """Lines that were replaced: the k-th removed line is compared, word by word, with the k-th added one."""
    pairs = min(i2 - i1, j2 - j1)
    words = [changed_words(a[i1 + k], b[j1 + k]) for k in range(pairs)]
    old = [Row("-", i + 1, None, a[i], words[i - i1][0] if i - i1 < pairs else ()) for i in range(i1, i2)]
    new = [Row("+", None, j + 1, b[j], words[j - j1][1] if j - j1 < pairs else ()) for j in range(j1, j2)]
    return old + new


def changed_words(old: str, new: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The character ranges of the words that differ, in both lines; none when they have little in common."""
    a, b = _WORDS.findall(old), _WORDS.findall(new)
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if matcher.ratio() < 0.4:
        return (), ()
    left: list[Span] = []
    right: list[Span] = []
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "equal":
            left.append((sum(map(len, a[:i1])), sum(map(len, a[:i2]))))
            right.append((sum(map(len, b[:j1])), sum(map(len, b[:j2]))))
    return tuple(s for s in left if s[0] < s[1]), tuple(s for s in right if s[0] < s[1])


def side_by_side(unified: list[Row]) -> list[tuple[Row | None, Row | None]]:
    """The same rows in two columns: the k-th removed line stands left of the k-th added one."""
    found: list[tuple[Row | None, Row | None]] = []
    old: list[Row] = []
    new: list[Row] = []

    def flush() -> None:
        for k in range(max(len(old), len(new))):
            found.append((old[k] if k < len(old) else None, new[k] if k < len(new) else None))
        old.clear()
        new.clear()

    for row in unified:
        if row.kind == "-":
            if new:
                flush()
            old.append(row)
        elif row.kind == "+":
            new.append(row)
        else:
            flush()
            found.append((row, row))
    flush()
    return found


def counts(unified: list[Row]) -> tuple[int, int]:
    """How many lines were added, and how many removed."""
    return sum(r.kind == "+" for r in unified), sum(r.kind == "-" for r in unified)

"""Edits of one text: exact replacement, and how an edit is told in one line. Pure."""

from __future__ import annotations

import difflib
import re

from loop.merge import count
from loop.text import clean

_ASSIGNMENT = re.compile(r"\s*([\w.\[\]\"']+)\s*=\s*(.+?)\s*(?:#.*)?$")


class NoMatch(Exception):
    """The text to replace is not there exactly once; the message says what is."""


def replace(text: str, old: str, new: str) -> str:
    """`text` with its one `old` replaced. Raises `NoMatch`."""
    if old == new:
        raise NoMatch("old and new are the same: nothing would change.")
    found = text.count(old)
    if found == 1:
        return text.replace(old, new)
    if found > 1:
        lines = [str(text.count("\n", 0, at) + 1) for at in _places(text, old)]
        raise NoMatch(f"old is in the file {found} times (lines {', '.join(lines)}): take in more lines.")
    raise NoMatch(f"old is not in the file.{_nearest(text, old)}")


def _places(text: str, old: str) -> list[int]:
    places: list[int] = []
    at = text.find(old)
    while at >= 0 and len(places) < 10:
        places.append(at)
        at = text.find(old, at + len(old))
    return places


def _nearest(text: str, old: str) -> str:
    """The line that looks most like the first line looked for."""
    wanted = next((line for line in old.splitlines() if line.strip()), "")
    lines = text.splitlines()
    starts = [line[: len(wanted)] for line in lines]  # a model leaves out comments more often than beginnings
    near = difflib.get_close_matches(wanted, starts, n=1, cutoff=0.5)
    if not near:
        return " View the file first."
    at = starts.index(near[0])
    return f" The nearest is line {at + 1}: {lines[at]!r}"


def diff(path: str, before: str, after: str) -> str:
    """Unified diff with two lines of context."""
    return "\n".join(
        difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, lineterm="", n=2)
    )


def headline(path: str, before: str, after: str) -> str:
    """`train.py +1 -1: WIDTH = 128 -> 160`, then the whole diff from the second line on."""
    added, removed = count(before, after)
    whole = diff(path, before, after)
    lines = whole.splitlines()[2:]
    plus = [line[1:].strip() for line in lines if line.startswith("+") and line[1:].strip()]
    minus = [line[1:].strip() for line in lines if line.startswith("-") and line[1:].strip()]
    told = _told(minus, plus)
    return clean(f"{path} +{added} -{removed}{f': {told[:120]}' if told else ''}\n{whole}")


def _told(minus: list[str], plus: list[str]) -> str:
    if len(minus) == len(plus) == 1:
        old, new = _ASSIGNMENT.match(minus[0]), _ASSIGNMENT.match(plus[0])
        if old and new and old.group(1) == new.group(1):
            return f"{old.group(1)} = {old.group(2)} -> {new.group(2)}"
    return plus[0] if plus else minus[0] if minus else ""

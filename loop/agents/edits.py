"""Edits of one text: replaces one place exactly, and describes an edit in one line and as a diff. Pure."""

from __future__ import annotations

import difflib
import re

from loop.merge import count
from loop.text import clean

_ASSIGNMENT = re.compile(r"\s*([\w.\[\]\"']+)\s*=\s*(.+?)\s*(?:#.*)?$")


class NoMatch(Exception):
    """The text to replace does not occur exactly once. The message says where it, or the nearest line, is."""


def replace(text: str, old: str, new: str) -> str:
    """`text` with its one occurrence of `old` replaced by `new`. Raises `NoMatch`."""
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
    """Where `old` begins in the text: the first ten places."""
    places: list[int] = []
    at = text.find(old)
    while at >= 0 and len(places) < 10:
        places.append(at)
        at = text.find(old, at + len(old))
    return places


def _nearest(text: str, old: str) -> str:
    """A sentence with the line that looks most like the first line of `old`."""
    wanted = next((line for line in old.splitlines() if line.strip()), "")
    lines = text.splitlines()
    # A model leaves out comments more often than beginnings: only as much of each line is compared.
    starts = [line[: len(wanted)] for line in lines]
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
    """An edit for the transcript. The first line is short, such as `train.py +1 -1: WIDTH = 128 -> 160`; the
    whole diff follows from the second line on."""
    added, removed = count(before, after)
    whole = diff(path, before, after)
    lines = whole.splitlines()[2:]
    plus = [line[1:].strip() for line in lines if line.startswith("+") and line[1:].strip()]
    minus = [line[1:].strip() for line in lines if line.startswith("-") and line[1:].strip()]
    change = _in_words(minus, plus)
    return clean(f"{path} +{added} -{removed}{f': {change[:120]}' if change else ''}\n{whole}")


def _in_words(minus: list[str], plus: list[str]) -> str:
    """`WIDTH = 128 -> 160` for one changed assignment, else the first line that came or went."""
    if len(minus) == len(plus) == 1:
        old, new = _ASSIGNMENT.match(minus[0]), _ASSIGNMENT.match(plus[0])
        if old and new and old.group(1) == new.group(1):
            return f"{old.group(1)} = {old.group(2)} -> {new.group(2)}"
    return plus[0] if plus else minus[0] if minus else ""

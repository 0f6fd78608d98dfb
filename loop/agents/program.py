"""Python source as a program: its statements at the top level, and fingerprints. Pure.

Two sources with the same fingerprint do the same. An experiment that only changes comments, docstrings or
layout would train the same program again; this is how that is noticed.

A run has a thousand versions of one file, and each differs from the others in a few statements. So a source
is cut into its statements, and what is to be known of one is worked out once, in whatever version it stands.
(`program.md`, the human's instructions, has nothing to do with this module.)
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

STATEMENTS = 8192
"""What is known of so many statements is kept in memory, here and by those who use this module."""
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What `ast.parse` raises for a text that is no program."""
_GOES_ON = re.compile(r"[\s#)\]}]|$|(else|elif|except|finally)\b")
"""A line that begins like this belongs to the statement before it, or says nothing."""


class Statement(Struct, frozen=True):
    """A statement at the top level of a source, with the comments and empty lines behind it. Where one cannot
    be told from the next by the beginnings of lines, it is several of them, or the whole source."""

    line: int
    """How many lines of the source stand before it."""
    text: str


def statements(source: str) -> list[Statement]:
    """The statements of a source, in their order. Raises like `ast.parse` when it is no program."""
    found = _cut(source)
    if "\r" in source or not all(_is_whole(statement.text) for statement in found):
        # Python counts lines in another way, or what looks like a statement stands inside a string.
        ast.parse(source)
        return [Statement(0, source)]
    return found


def _cut(source: str) -> list[Statement]:
    """A source cut before each line that begins like a statement and is not inside a long string."""
    lines = source.split("\n")
    begins, inside = [], False
    for n, line in enumerate(lines):
        if not inside and not _GOES_ON.match(line):
            begins.append(n)
        inside ^= line.count('"""') % 2 == 1
    begins = [0, *(n for n in begins[1:] if not lines[n - 1].startswith("@"))]
    ends = [*begins[1:], len(lines)]
    return [Statement(a, "\n".join(lines[a:b]) + "\n") for a, b in zip(begins, ends, strict=True)]


@lru_cache(maxsize=STATEMENTS)
def _is_whole(text: str) -> bool:
    try:
        ast.parse(text)
    except UNREADABLE:
        return False
    return True


@lru_cache(maxsize=4096)
def fingerprint(source: str) -> str:
    """A hash that is the same for two sources that differ in comments, docstrings and layout only. A source
    that does not parse has the hash of its text."""
    try:
        found = statements(source)
    except UNREADABLE:
        return hash_of(source)
    return joined(each for statement in found for each in _hashes(statement.text))


def joined(hashes: Iterable[str]) -> str:
    """The fingerprint of a source whose statements have these hashes."""
    return hash_of("\n".join(hashes))


@lru_cache(maxsize=STATEMENTS)
def _hashes(text: str) -> tuple[str, ...]:
    return hashes_of_tree(ast.parse(text))


def hashes_of_tree(tree: ast.Module) -> tuple[str, ...]:
    """A hash of each statement, docstrings aside. It deletes the docstrings from `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _is_words(
            node.body[0]
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tuple(hash_of(ast.dump(node)) for node in tree.body if not _is_words(node))


def hash_of(text: str) -> str:
    """The hash of any text, lone surrogates included."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_words(node: ast.stmt) -> bool:
    """Whether a statement is nothing but a string: a docstring, where it is the first one."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )

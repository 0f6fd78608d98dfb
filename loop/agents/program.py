"""Fingerprints of Python source: two files with the same fingerprint do the same. Pure.

An experiment that only changes comments, docstrings or layout would train the same program again; this is how
that is noticed. (`program.md`, the human's instructions, has nothing to do with this module.)
"""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache


@lru_cache(maxsize=4096)
def fingerprint(source: str) -> str:
    """A hash that is the same for two sources that differ in comments, docstrings and layout only. A source
    that does not parse has the hash of its text."""
    try:
        return fingerprint_of_tree(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _hash(source)


def fingerprint_of_tree(tree: ast.Module) -> str:
    """The fingerprint of a parsed source. It deletes the docstrings from `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return _hash(ast.dump(tree))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        node.body = node.body[1:] or [ast.Pass()]

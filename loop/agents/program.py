"""When two Python sources are the same program: comments, docstrings and layout aside. Pure."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache


@lru_cache(maxsize=4096)
def fingerprint(source: str) -> str:
    """The same for two scripts that differ in comments, docstrings and layout only."""
    try:
        return of_tree(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _hash(source)


def of_tree(tree: ast.Module) -> str:
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

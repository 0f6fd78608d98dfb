"""Fetches the compute kernels that a trainer takes from a hub, before it has to train without network.

    python -I fetch_kernels.py TRAIN.PY

The package `kernels` downloads a kernel when a trainer calls `get_kernel(REPOSITORY)`. This finds the calls
in the file without running it, and makes them. Where the repository's name depends on the GPU, as in
karpathy/autoresearch, all names are fetched, and one is enough. Standard library only; the package `kernels`
is the trainer's own.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A call of `get_kernel`: names that its repository may have, and its other arguments."""

    names: list[str]
    more: dict[str, Any]


def calls(source: str) -> Iterator[Call]:
    """The calls of `get_kernel` whose repository is written in the source. Raises SyntaxError."""
    tree = ast.parse(source)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    for node in found:
        if _name(node.func) == "get_kernel" and (names := _texts(tree, node.args[0])):
            yield Call(names, dict(_constants(node.keywords)))


def _name(function: ast.expr) -> str:
    return getattr(function, "id", None) or getattr(function, "attr", None) or ""


def _texts(tree: ast.AST, value: ast.expr) -> list[str]:
    """Strings like `owner/name` in an expression, and, if it is a variable, in what is assigned to it."""
    found: list[ast.AST] = [value]
    if isinstance(value, ast.Name):
        assigned = (node for node in ast.walk(tree) if isinstance(node, ast.Assign))
        found += [a.value for a in assigned if any(_name(target) == value.id for target in a.targets)]
    texts = [leaf.value for top in found for leaf in ast.walk(top) if isinstance(leaf, ast.Constant)]
    return [text for text in dict.fromkeys(texts) if isinstance(text, str) and text.count("/") == 1]


def _constants(keywords: list[ast.keyword]) -> Iterator[tuple[str, Any]]:
    for keyword in keywords:
        if keyword.arg and isinstance(keyword.value, ast.Constant):
            yield keyword.arg, keyword.value.value


def fetch(call: Call, get_kernel: Any) -> bool:
    """Fetch a kernel under all of its names; returns whether this machine has a build of one of them."""
    there = False
    for name in call.names:
        print(f"fetching kernel {name}", flush=True)
        try:
            get_kernel(name, **call.more)
            there = True
        except Exception as error:  # whatever the hub, the package or the kernel's own code raises
            print(f"kernel {name} cannot be had: {' '.join(str(error).split())[:200]}", flush=True)
    return there


def main(path: Path) -> int:
    """Fetch all kernels of the file; returns 1 if one of them could not be had under any name."""
    try:
        found = list(calls(path.read_text("utf-8", "replace")))
    except SyntaxError:
        return 0  # the training itself says it better
    if not found:
        return 0
    try:
        get_kernel = importlib.import_module("kernels").get_kernel
    except ImportError as error:
        print(f"{path.name} takes kernels from a hub, but the package `kernels` is missing: {error}")
        return 1
    missing = [call for call in found if not fetch(call, get_kernel)]
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

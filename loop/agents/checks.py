"""What a submission must keep to before a second of training is spent on it. Pure, but for reading the past.

Each check answers with a sentence that tells a model how to mend its file.
"""

from __future__ import annotations

import ast
import re

from loop.agents.base import ResearchContext
from loop.agents.program import fingerprint

SOURCE_MOST = 400_000
"""Characters of an editable file."""
EVALUATORS = re.compile(r"evaluate\w*$")
"""How the functions are called that make the number: `evaluate`, autoresearch's `evaluate_bpb`, ..."""


class Tried:
    """Which program each past experiment was, by fingerprint; a commit is read and parsed once only."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def update(self, context: ResearchContext) -> None:
        """Take in the experiments that are new. Takes a few milliseconds for each of them."""
        for e in context.experiments:
            if e.commit and e.n != context.n and e.commit not in self._known:
                self._known[e.commit] = fingerprint(context.archive.source(e.n))

    def find(self, context: ResearchContext, source: str) -> int | None:
        """Number of the first experiment that was this very program."""
        mark = fingerprint(source)
        others = (e for e in context.experiments if e.n != context.n)
        return next((e.n for e in others if self._known.get(e.commit) == mark), None)


def objection(context: ResearchContext, source: str, tried: Tried) -> str | None:
    """Why `source` cannot be trained as this experiment; None when it can."""
    path = context.path
    if len(source) > SOURCE_MOST:
        return f"{path} has {len(source):,} characters: keep it under {SOURCE_MOST:,}."
    if path.endswith(".py") and (wrong := unparsable(path, source)):
        return wrong
    if source == context.source or fingerprint(source) == fingerprint(context.source):
        return f"{path} is the incumbent's program unchanged (comments do not count): change what it does."
    if context.failure and fingerprint(source) == fingerprint(context.failure.source):
        return f"{path} is the program that crashed, unchanged: mend the cause of the crash."
    if (n := tried.find(context, source)) is not None:
        e = next(e for e in context.experiments if e.n == n)
        what = f"{context.metric} {e.value:.6f}, {e.phase}" if e.value is not None else e.phase
        return f"this is the program of experiment {n} ({what}) again: try something else."
    broken = broken_contract(context, source) if path.endswith(".py") else None
    return broken or context.refuse(source)


def unparsable(path: str, source: str) -> str | None:
    """What is wrong with the syntax, with the line."""
    try:
        ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()[:120]
        return f"{path} does not parse: {error.msg}, line {error.lineno}: {line!r}. Mend it and submit again."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{path} does not parse: {str(error) or 'nested too deeply'}. Mend it and submit again."
    return None


def broken_contract(context: ResearchContext, source: str) -> str | None:
    """The evaluator must stay the one outside the file, be called, and its number be printed."""
    before, after = ast.parse(context.source), ast.parse(source)
    evaluators = _called(before)
    if evaluators and not evaluators & _called(after):
        names = " or ".join(sorted(evaluators))
        return (
            f"{context.path} no longer calls {names}(): the number must come from the evaluator. "
            "Put the call back."
        )
    if own := (_defined(after) - _defined(before)) & evaluators:
        return (
            f"{context.path} defines its own {own.pop()}: the number must come from the evaluator outside "
            "the file."
        )
    if _mentions(before, context.metric) and not _mentions(after, context.metric):
        return f"{context.path} no longer prints `{context.metric}:` at its end: put that line back."
    return None


def _called(tree: ast.Module) -> set[str]:
    """Names of the evaluators that a script calls."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            target = node.func
            name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
            if EVALUATORS.match(name):
                names.add(name)
    return names


def _defined(tree: ast.Module) -> set[str]:
    """Names that a script gives to functions, classes and variables of its own."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _mentions(tree: ast.Module, metric: str) -> bool:
    """Some string of the script holds `metric:`; parts of f-strings count."""
    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and f"{metric}:" in node.value
        for node in ast.walk(tree)
    )

"""Checks a submitted source before any time is spent on training it.

Each check returns a sentence that tells a model what is wrong and how to mend it, or None. The checks read
past sources from the archive; otherwise they are pure. Parsing a large source takes long, so `objection`
works in a thread. Even there `ast.parse` stops all other Python code while it runs, which is why sources are
bounded.
"""

from __future__ import annotations

import ast
import asyncio
import re

from loop.agents import ideas
from loop.agents.base import ResearchContext
from loop.agents.expected import Expected
from loop.agents.program import fingerprint

SOURCE_MOST = 200_000
"""Characters that an editable file may have: seven times as many as nanogpt/train.py. Measured on one
core, to parse so many stops the engine for 45 ms when they are copies of nanogpt/train.py and for 370 ms
when they are the densest expressions; twice as many stop it for 90 ms and 1.1 s."""
EVALUATORS = re.compile(r"evaluate\w*$")
"""Names of functions that compute the metric: `evaluate`, autoresearch's `evaluate_bpb` and so on."""


class Tried:
    """The fingerprint of each past experiment. Each commit is read and parsed once only."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def update(self, context: ResearchContext) -> None:
        """Take in the experiments that are new. It takes a few milliseconds for each of them."""
        for e in context.experiments:
            if e.commit and e.n != context.n and e.commit not in self._known:
                self._known[e.commit] = fingerprint(context.archive.source(e.n))

    def find(self, context: ResearchContext, source: str) -> int | None:
        """Number of the first experiment that was the same program as `source`; None when there is none."""
        own = fingerprint(source)
        others = (e for e in context.experiments if e.n != context.n)
        return next((e.n for e in others if self._known.get(e.commit) == own), None)


class Doubts:
    """Doubts whether a submission is worth its training. Each submission is doubted once: what is submitted
    again unchanged goes on."""

    def __init__(self, context: ResearchContext, known: Expected) -> None:
        self.known, self._context = known, context
        self._told: set[str] = set()

    def find(self, source: str, description: str) -> str | None:
        """What speaks against training this source, the first time that it is asked for."""
        own = fingerprint(source)
        if own in self._told:
            return None
        doubt = self.known.doubt(source) or ideas.repeat(self._context, source, description)
        if doubt:
            self._told.add(own)
        return doubt


async def objection(context: ResearchContext, source: str, tried: Tried) -> str | None:
    """Why `source` cannot be trained as this experiment; None when it can."""
    wrong = await asyncio.to_thread(_own_objection, context, source, tried)
    return wrong or await context.refuse(source)


def _own_objection(context: ResearchContext, source: str, tried: Tried) -> str | None:
    """The objection of this module's checks; `context.refuse` adds those of the engine."""
    path = context.path
    if wrong := unreadable(path, source):
        return wrong
    if source == context.source or fingerprint(source) == fingerprint(context.source):
        return f"{path} is the incumbent's program unchanged (comments do not count): change what it does."
    if context.failure and fingerprint(source) == fingerprint(context.failure.source):
        return f"{path} is the program that crashed, unchanged: mend the cause of the crash."
    if (n := tried.find(context, source)) is not None:
        e = next(e for e in context.experiments if e.n == n)
        what = f"{context.metric} {e.value:.6f}, {e.phase}" if e.value is not None else e.phase
        return f"this is the program of experiment {n} ({what}) again: try something else."
    return broken_contract(context, source) if path.endswith(".py") else None


def unreadable(path: str, source: str) -> str | None:
    """Why a source is not even looked at: it is too long, or Python that does not parse."""
    if len(source) > SOURCE_MOST:
        return f"{path} has {len(source):,} characters: keep it under {SOURCE_MOST:,}."
    return syntax_error(path, source) if path.endswith(".py") else None


def syntax_error(path: str, source: str) -> str | None:
    """What is wrong with the syntax, and in which line."""
    try:
        ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()[:120]
        return f"{path} does not parse: {error.msg}, line {error.lineno}: {line!r}. Mend it and submit again."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{path} does not parse: {str(error) or 'nested too deeply'}. Mend it and submit again."
    return None


def broken_contract(context: ResearchContext, source: str) -> str | None:
    """Which part of the trainer's contract a source breaks: it must call the evaluator, must not replace
    it by one of its own, and must print the metric. Only what the incumbent does is asked for."""
    before, after = ast.parse(context.source), ast.parse(source)
    evaluators = _called_evaluators(before)
    if evaluators and not evaluators & _called_evaluators(after):
        names = " or ".join(sorted(evaluators))
        return (
            f"{context.path} no longer calls {names}(): the number must come from the evaluator. "
            "Put the call back."
        )
    if own := (_defined_names(after) - _defined_names(before)) & evaluators:
        return (
            f"{context.path} defines its own {own.pop()}: the number must come from the evaluator outside "
            "the file."
        )
    if _mentions(before, context.metric) and not _mentions(after, context.metric):
        return f"{context.path} no longer prints `{context.metric}:` at its end: put that line back."
    return None


def _called_evaluators(tree: ast.Module) -> set[str]:
    """Names of the evaluators that a script calls."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            target = node.func
            name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
            if EVALUATORS.match(name):
                names.add(name)
    return names


def _defined_names(tree: ast.Module) -> set[str]:
    """Names that a script gives to functions, classes and variables of its own."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _mentions(tree: ast.Module, metric: str) -> bool:
    """Whether some string of the script, or the constant part of an f-string, holds `metric:`."""
    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and f"{metric}:" in node.value
        for node in ast.walk(tree)
    )

"""Past experiments as ideas: what was tried where, what came of it, and so what is refuted and what is open.

All of it follows from the state and from past sources, so a restarted engine knows what it knew before.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from loop.agents import history, hyperparameters, program
from loop.agents.base import ResearchContext
from loop.agents.quote import size
from loop.experiment import Experiment
from loop.text import clean

Outcome = Literal["kept", "refuted", "open"]

NEWEST = 100
"""So many of the newest experiments are looked at."""
STRETCH = 8
"""Novelty is measured over so many of the newest ideas."""
NOVEL = 0.35
"""Below this mean novelty (0: all were tried before, 1: none) research is in a rut."""
ALIKE = 0.5
"""Descriptions that share this share of their words say the same."""
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{2,}")
_COMMON = {
    "the",
    "and",
    "with",
    "for",
    "from",
    "into",
    "that",
    "than",
    "instead",
    "use",
    "using",
    "set",
    "try",
}


class Idea(Struct, frozen=True):
    """One experiment as an idea."""

    n: int
    kind: str
    places: frozenset[str]
    """The functions, methods and values at the top level of the file that it changes."""
    words: frozenset[str]
    """What its description says."""
    outcome: Outcome
    why: str
    """What shows the outcome: a change of the metric with its error, or why it crashed."""
    description: str
    hypothesis: str = ""
    moves: dict[str, float] = {}
    """The hyperparameters that it changes, and their new values less the old ones."""


def ideas(context: ResearchContext) -> list[Idea]:
    """The ideas of the newest experiments that have a verdict, in their order."""
    judged = [e for e in context.experiments[-NEWEST:] if e.judged and e.commit and not e.combines]
    return [_idea(context, e) for e in judged if context.parent(e) is not None]


def told(context: ResearchContext, most: int) -> str:
    """What is refuted and what is open, the newest first, in at most `most` bytes; empty when nothing is."""
    found = ideas(context)[::-1]
    refuted = [f"#{i.n} {i.kind}: {i.description} ({i.why})" for i in found if i.outcome == "refuted"]
    undecided = [
        f"#{i.n} {i.kind}: {i.description} ({i.why}){f'. Hoped: {i.hypothesis}' if i.hypothesis else ''}"
        for i in found
        if i.outcome == "open"
    ]
    parts = (("Refuted, measured as worse:", refuted), ("Open, too close to tell or crashed:", undecided))
    return "\n".join(line for title, rows in parts for line in _within(title, rows, most // 2))


def repeat(context: ResearchContext, source: str, description: str) -> str | None:
    """Why a submission is close to a refuted idea, in a sentence; None when it is not.

    Close is the same kind of change in the same places: of hyperparameters the same ones, moved the same way
    and at least as far; of other code one that is described in the same words.
    """
    new = _of(context, context.source, source, description)
    if not new.places:
        return None
    for old in reversed(ideas(context)):
        same = old.outcome == "refuted" and old.kind == new.kind and old.places == new.places
        if same and (_as_far(new.moves, old.moves) if new.moves else _share(new.words, old.words) >= ALIKE):
            return (
                f"it is close to experiment {old.n} ({old.description}), which is refuted: {old.why}. Change "
                "it, or submit it once more if it differs in what matters, and say so in the hypothesis."
            )
    return None


def rut(context: ResearchContext) -> str:
    """Tells that the newest ideas were hardly new, and where they were; empty when they were new enough.

    What agent `search` tries is left out: small steps are its work.
    """
    found = ideas(context)
    own = {e.n for e in context.experiments if e.agent != "search"}
    newest = [i for i in found if i.n in own][-STRETCH:]
    if len(newest) < STRETCH:
        return ""
    novelty = sum(_novelty(i, [o for o in found if o.n < i.n]) for i in newest) / len(newest)
    if novelty >= NOVEL:
        return ""
    where = Counter(place for i in newest for place in i.places).most_common(3)
    places = ", ".join(f"{place} {count} times" for place, count in where)
    return (
        f"The last {STRETCH} experiments were close to earlier ones (novelty {novelty:.2f}, where 1 is new). "
        f"They changed {places}. Leave that: change something that no experiment has changed yet."
    )


def _idea(context: ResearchContext, e: Experiment) -> Idea:
    parent = context.parent(e)
    assert parent is not None, "the caller has seen to it"
    source = context.archive.source
    found = _of(context, source(parent.n), source(e.n), e.description)
    outcome, why = _outcome(context, e)
    return Idea(
        e.n, history.kind(context, e), found.places, found.words, outcome, why, found.description,
        " ".join(clean(e.hypothesis).split())[:120], found.moves,
    )  # fmt: skip


def _of(context: ResearchContext, before: str, after: str, description: str) -> Idea:
    """A change as an idea whose outcome is not known."""
    device = context.device
    was = {h.name: float(h.value) for h in hyperparameters.find(before, device)}
    now = {h.name: float(h.value) for h in hyperparameters.find(after, device)}
    only = hyperparameters.code(before, device) == hyperparameters.code(after, device)
    moves = {name: now[name] - was[name] for name in was if only and name in now and now[name] != was[name]}
    words = " ".join(clean(description).split())[:160]
    kind = history.OTHER if only else history.described(words)
    return Idea(0, kind, places(before, after), _words(words), "open", "", words, moves=moves)


def _outcome(context: ResearchContext, e: Experiment) -> tuple[Outcome, str]:
    if e.phase == "crash":
        return "open", f"crashed: {clean(e.reason)[:80]}"
    if e.delta is None:
        return ("kept" if e.phase == "keep" else "open"), f"{context.metric} {e.value}"
    error = e.stderr or 0.0
    why = f"{context.metric} {e.delta:+.4f}" + (f" +- {error:.4f}" if error else "")
    if e.phase == "keep":
        return "kept", why
    worse = e.delta if context.direction == "min" else -e.delta
    return ("refuted" if worse > error else "open"), why


def _within(title: str, rows: list[str], most: int) -> Iterator[str]:
    """The title and as many rows as have room, with a count of the others."""
    room = most - size(title) - 40
    for i, row in enumerate(rows):
        room -= size(row) + 1
        if room < 0:
            yield f"(and {len(rows) - i} older ones)"
            return
        if i == 0:
            yield title
        yield row


def places(before: str, after: str) -> frozenset[str]:
    """Names of the functions, methods and values at the top level that differ between two sources."""
    old, new = _parts(before), _parts(after)
    return frozenset(name for name in {*old, *new} if old.get(name) != new.get(name))


@lru_cache(maxsize=1024)
def _parts(source: str) -> dict[str, str]:
    """What stands at the top level of a script: hashes by names; empty when it does not parse."""
    try:
        statements = program.statements(source)
    except program.UNREADABLE:
        return {}
    found: dict[str, str] = {}
    for statement in statements:
        for name, is_now in _parts_of(statement.text):
            found[name] = found.get(name, "") + is_now
    return found


@lru_cache(maxsize=program.STATEMENTS)
def _parts_of(text: str) -> tuple[tuple[str, str], ...]:
    """Name and hash of each part of a statement."""
    return tuple((name, program.hash_of(ast.dump(node))) for name, node in _named(ast.parse(text).body))


def _named(body: list[ast.stmt], of: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        match node:
            case ast.ClassDef(name=name):
                yield from _named(node.body, f"{name}.")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield f"{of}{name}", node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield f"{of}{name}", node
            case ast.If():
                yield from _named([*node.body, *node.orelse], of)
            case ast.Expr(value=ast.Constant()):
                pass  # a docstring
            case _:
                yield f"{of}(other statements)", node


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower().rstrip("s") for word in _WORD.findall(text)) - _COMMON


def _share(a: frozenset[str], b: frozenset[str]) -> float:
    """How many of the words of both they have in common, as a share."""
    return len(a & b) / len(a | b) if a | b else 0.0


def _as_far(new: dict[str, float], old: dict[str, float]) -> bool:
    """Whether both move the same hyperparameters the same way, and `new` at least as far as `old`."""
    return new.keys() == old.keys() and all(
        new[name] * old[name] > 0 and abs(new[name]) >= abs(old[name]) for name in new
    )


def _novelty(idea: Idea, earlier: list[Idea]) -> float:
    """1 when nothing before had its places, 0 when an earlier idea had the same ones."""
    return 1 - max((_share(idea.places, old.places) for old in earlier), default=0.0)

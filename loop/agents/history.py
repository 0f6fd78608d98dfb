"""The past of a run in few words: results, what is in training, when to try something else. Pure."""

from __future__ import annotations

import re
from collections import Counter

from loop.agents import edits, hyperparameters
from loop.agents.base import ResearchContext
from loop.agents.quote import size
from loop.state import Experiment
from loop.text import clean

STRETCH = 8
"""Verdicts without a keep after which another kind of change is asked for."""
KINDS_OF = 30
"""Latest verdicts of a stretch whose kinds are counted."""
LATEST = 30
"""Rows that a table has in any case."""
NEAR_MISSES = 20
"""Discards closest to the best that go before other rows."""

KINDS = {
    "simplification": r"simplif|remov|delet|drop the|without|get rid",
    "schedule": r"schedul|warm.?up|warm.?down|cool.?down|decay to|final.?lr|cosine|anneal",
    "optimizer": r"optimi[sz]er|muon|adam|sgd|momentum|beta[12]|weight.?decay|lion|shampoo|soap|newton|clip",
    "data order": r"\bdata\b|batch(?!.?norm)|shuffl|curricul|sequence len|packing|token order|epoch",
    "architecture": r"architect|layer|depth|width|head|attention|mlp|norm|embed|residual|activation|relu|gelu"
    r"|glu|rope|rotary|softcap|n.?gram|window|expert|init",
}
"""Kinds of change and the words that tell them, looked for in this order; what fits none is the last kind."""
OTHER = "hyperparameter"


def table(context: ResearchContext, most: int) -> str:
    """Every row in compact form; when that is longer than `most` bytes: all keeps, the latest, the best
    near misses, then whatever else fits, newest first, and a count of what is left out."""
    done = [e for e in context.experiments if e.judged or e.phase == "rejected"]
    if not done:
        return "(none yet)"
    rows = {e.n: row(e) for e in done}
    chosen: set[int] = set()
    room = most - 200
    for e in _by_importance(context, done):
        room -= size(rows[e.n]) + 1
        if room < 0:
            break
        chosen.add(e.n)
    head = f"# status {context.metric} change memory lines description"
    lines = [head, *(rows[e.n] for e in done if e.n in chosen)]
    if left := [e for e in done if e.n not in chosen]:
        counts = ", ".join(
            f"{count} {phase}" for phase, count in Counter(e.phase for e in left).most_common()
        )
        lines.append(
            f"(left out: {len(left)} of {len(done)} experiments: {counts}; read_experiment shows any)"
        )
    return "\n".join(lines)


def _by_importance(context: ResearchContext, done: list[Experiment]) -> list[Experiment]:
    newest = done[::-1]
    kept = [e for e in newest if e.phase == "keep"]
    sign = 1 if context.direction == "min" else -1
    misses = [e for e in newest if e.phase == "discard" and e.value is not None]
    near = sorted(misses, key=lambda e: sign * (e.value or 0.0))[:NEAR_MISSES]
    return list({e.n: e for e in [*newest[:LATEST], *kept, *near, *newest]}.values())


def row(e: Experiment) -> str:
    """`#12 keep 0.969712 -0.001200 60.2GB +3-1 halve the batch`."""
    value = "-" if e.value is None else f"{e.value:.6f}"
    delta = "" if e.delta is None else f" {e.delta:+.6f}"
    why = f" ({e.reason})" if e.phase in ("crash", "rejected") and e.reason else ""
    words = " ".join(clean(f"{e.description}{why}").split())
    return f"#{e.n} {e.phase} {value}{delta} {e.memory_gb:.1f}GB +{e.added}-{e.removed} {words[:240]}"


def in_training(context: ResearchContext) -> str:
    """What runs or waits now, in one line; empty when nothing does."""
    others = [e for e in context.experiments if e.n != context.n and e.commit]
    busy = [e for e in others if e.phase in ("training", "judging", "queued", "waiting")]
    return "; ".join(f"#{e.n} {' '.join(clean(e.description).split())[:200]}" for e in busy)


def stretch(context: ResearchContext) -> list[Experiment]:
    """The verdicts since the last keep."""
    judged = [e for e in context.experiments if e.judged]
    last = max((i for i, e in enumerate(judged) if e.phase == "keep"), default=-1)
    return judged[last + 1 :]


def kind(context: ResearchContext, e: Experiment) -> str:
    """What kind of change an experiment was: numbers of named hyperparameters only, or by its description."""
    words = e.description.lower()
    told = next((name for name, pattern in KINDS.items() if re.search(pattern, words)), OTHER)
    return OTHER if told != OTHER and _only_numbers(context, e) else told


def _only_numbers(context: ResearchContext, e: Experiment) -> bool:
    parent = next((p.n for p in context.experiments if p.commit and p.commit == e.parent), None)
    if parent is None or not context.path.endswith(".py"):
        return False
    before, after = context.archive.source(parent), context.archive.source(e.n)
    return before != after and hyperparameters.code(before) == hyperparameters.code(after)


def advice(context: ResearchContext) -> str:
    """After a stretch without a keep: ask for another kind of change, and name the kinds already tried."""
    since = stretch(context)
    if len(since) < STRETCH:
        return ""
    tried = Counter(kind(context, e) for e in since[-KINDS_OF:])
    told = ", ".join(f"{name} {count}" for name, count in tried.most_common())
    rest = [name for name in (OTHER, *KINDS) if name not in tried]
    fewest = rest or [name for name, _ in tried.most_common()[::-1][:2]]
    return (
        f"The last {len(since)} experiments brought no keep. Kinds tried since then: {told}. Propose a "
        f"different kind of change now: {' or '.join(fewest)}. Two near misses together may pay."
    )


def change(context: ResearchContext, source: str) -> str:
    """A candidate's diff against the incumbent."""
    return edits.diff(context.path, context.source, source)

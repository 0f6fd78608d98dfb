"""Tells a model the past of a run: results, what is in training, and when to try something else.

It reads past sources from the archive; otherwise it is pure.
"""

from __future__ import annotations

import re
from collections import Counter

from loop.agents import dynamics, hyperparameters
from loop.agents.base import ResearchContext
from loop.agents.quote import size
from loop.state import Experiment
from loop.text import clean

STRETCH = 8
"""After so many verdicts in a row without a keep, the agent is asked for another kind of change."""
KINDS_OF = 30
"""How many of those verdicts, the latest ones, are sorted by kind of change."""
LATEST = 30
"""This many of the latest experiments come into the table before all others."""
NEAR_MISSES = 20
"""This many of the best discarded experiments come into the table before the remaining ones."""

KINDS = {
    "simplification": r"simplif|remov|delet|drop the|without|get rid",
    "schedule": r"schedul|warm.?up|warm.?down|cool.?down|decay to|final.?lr|cosine|anneal",
    "optimizer": r"optimi[sz]er|muon|adam|sgd|momentum|beta[12]|weight.?decay|lion|shampoo|soap|newton|clip",
    "data order": r"\bdata\b|batch(?!.?norm)|shuffl|curricul|sequence len|packing|token order|epoch",
    "architecture": r"architect|layer|depth|width|head|attention|mlp|norm|embed|residual|activation|relu|gelu"
    r"|glu|rope|rotary|softcap|n.?gram|window|expert|init",
}
"""Kinds of change, each with a pattern for its description. The first pattern that is found decides; what
fits none is of the kind `OTHER`."""
OTHER = "hyperparameter"
IN_TURN = ("architecture", "optimizer", "schedule", "data order", OTHER, "simplification")
"""Kinds of change that conversations work on at once: consecutive experiments have different ones."""


def table(context: ResearchContext, most: int) -> str:
    """The results, one line for each experiment, in at most `most` bytes.

    When not all rows have room, they are chosen in this order: the latest, the keeps, the near misses, then
    the others, newest first. A last line counts those left out.
    """
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
    head = f"# status {context.metric} change memory tokens/s lines description"
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
    """The experiments in the order in which they come into the table."""
    newest = done[::-1]
    kept = [e for e in newest if e.phase == "keep"]
    sign = 1 if context.direction == "min" else -1
    misses = [e for e in newest if e.phase == "discard" and e.value is not None]
    near = sorted(misses, key=lambda e: sign * (e.value or 0.0))[:NEAR_MISSES]
    return list({e.n: e for e in [*newest[:LATEST], *kept, *near, *newest]}.values())


def row(e: Experiment) -> str:
    """One line of the table, such as `#12 keep 0.969712 -0.001200 60.2GB +3-1 halve the batch`."""
    value = "-" if e.value is None else f"{e.value:.6f}"
    delta = "" if e.delta is None else f" {e.delta:+.6f}"
    why = f" ({e.reason})" if e.phase in ("crash", "rejected") and e.reason else ""
    words = " ".join(clean(f"{e.description}{why}").split())
    speed = dynamics.tokens_per_s(e)
    figures = f"{e.memory_gb:.1f}GB" + (f" {dynamics.short(speed)}/s" if speed else "")
    return f"#{e.n} {e.phase} {value}{delta} {figures} +{e.added}-{e.removed} {words[:240]}"


def in_training(context: ResearchContext) -> str:
    """The experiments that are training or waiting now, in one line; empty when there are none."""
    others = [e for e in context.experiments if e.n != context.n and e.commit]
    busy = [e for e in others if e.phase in ("training", "judging", "queued", "waiting")]
    return "; ".join(f"#{e.n} {' '.join(clean(e.description).split())[:200]}" for e in busy)


def focus(context: ResearchContext, n: int | None = None) -> str:
    """The kind of change that the conversation about experiment `n`, or this one, works on; empty where it
    goes on alone. It follows from the number, so a restarted engine gives the same kind again."""
    number = context.n if n is None else n
    return IN_TURN[number % len(IN_TURN)] if context.proposers > 1 else ""


def side_by_side(context: ResearchContext) -> str:
    """Tells this conversation its kind of change, and what the others are working out; empty when alone."""
    if not (own := focus(context)):
        return ""
    others = [e.n for e in context.experiments if e.phase == "proposing" and e.n != context.n]
    busy = ", ".join(f"#{n} ({focus(context, n)})" for n in others) or "none at this moment"
    return (
        f"Several researchers propose at once, each its own kind of change. Yours is: {own}. Leave the other "
        f"kinds to the others. Being worked out beside you: {busy}."
    )


def since_last_keep(context: ResearchContext) -> list[Experiment]:
    """The experiments judged since the last keep."""
    judged = [e for e in context.experiments if e.judged]
    last = max((i for i, e in enumerate(judged) if e.phase == "keep"), default=-1)
    return judged[last + 1 :]


def kind(context: ResearchContext, e: Experiment) -> str:
    """What kind of change an experiment was, by its description. One that changed nothing but values of
    hyperparameters is of the kind `OTHER`, whatever its description says."""
    found = described(e.description)
    return OTHER if found != OTHER and _only_hyperparameters(context, e) else found


def described(words: str) -> str:
    """What kind of change a description speaks of."""
    return next((name for name, pattern in KINDS.items() if re.search(pattern, words.lower())), OTHER)


def _only_hyperparameters(context: ResearchContext, e: Experiment) -> bool:
    """Whether the experiment differs from its parent in values of hyperparameters only."""
    parent = context.parent(e)
    if parent is None or not context.path.endswith(".py"):
        return False
    before, after = context.archive.source(parent.n), context.archive.source(e.n)
    return before != after and hyperparameters.code(before, context.device) == hyperparameters.code(
        after, context.device
    )


def advice(context: ResearchContext) -> str:
    """After `STRETCH` verdicts without a keep: asks for another kind of change and names the kinds tried
    since. Empty before that, and where the kind is given."""
    since = since_last_keep(context)
    if len(since) < STRETCH or focus(context):
        return ""
    tried = Counter(kind(context, e) for e in since[-KINDS_OF:])
    counts = ", ".join(f"{name} {count}" for name, count in tried.most_common())
    rest = [name for name in (OTHER, *KINDS) if name not in tried]
    fewest = rest or [name for name, _ in tried.most_common()[::-1][:2]]
    return (
        f"The last {len(since)} experiments brought no keep. Kinds tried since then: {counts}. Propose a "
        f"different kind of change now: {' or '.join(fewest)}. Two near misses together may pay."
    )

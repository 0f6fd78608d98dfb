"""Where the incumbent comes from, as a graph: each keep, what it gained, and how much was tried on it."""

from __future__ import annotations

from typing import NamedTuple

from textual.content import Content

from loop.state import Experiment, RunState, lineage
from tui.text import SYMBOLS, metric, plural, safe, signed, title


class Link(NamedTuple):
    """A keep on the way from the unchanged code to the incumbent."""

    keep: Experiment
    tried: list[Experiment]
    """The judged experiments that changed it and were not kept."""


def links(state: RunState) -> list[Link]:
    """The keeps from the unchanged code to the incumbent, and what else was tried on each."""
    chain = lineage(state.experiments, state.incumbent_commit)
    on = {e.commit: list[Experiment]() for e in chain}
    for e in state.experiments:
        if e.judged and e not in chain and e.parent in on:
            on[e.parent].append(e)
    return [Link(e, on[e.commit]) for e in chain]


def graph(state: RunState) -> list[Content]:
    """The lineage, a line or two for each keep, the unchanged code first."""
    found: list[Content] = []
    for number, (e, tried) in enumerate(links(state)):
        if number:
            gained = f"{signed(e.delta)}   {safe(e.short)}".rstrip()
            found.append(Content.assemble(("│  ", "$neutral"), (gained, "$keep")))
        symbol, style = SYMBOLS["keep"]
        best = "★ " if e.n == state.incumbent else ""
        found.append(
            Content.assemble(
                (f"{symbol}  ", style),
                (f"#{e.n:<5}", "bold"),
                (f"{metric(e.value)}  ", "$measure"),
                (best, "$keep"),
                title(e),
                (f"   {safe(e.commit)[:7]}", "$neutral"),
            )
        )
        if e.combines:
            numbers = ", ".join(f"#{n}" for n in e.combines)
            found.append(Content.assemble(("│  ", "$neutral"), (f"puts together {numbers}", "$step")))
        if tried:
            branch = "└─ " if e.commit == state.incumbent_commit else "├─ "
            found.append(Content.assemble((branch, "$neutral"), (_fates(tried), "$neutral")))
    return found


def _fates(tried: list[Experiment]) -> str:
    """What became of the experiments that were tried on a keep and did not replace it."""
    crashed = sum(e.phase == "crash" for e in tried)
    words = [plural(len(tried) - crashed, "idea") + " discarded"] if len(tried) > crashed else []
    return ", ".join([*words, *([f"{crashed} crashed"] if crashed else [])])

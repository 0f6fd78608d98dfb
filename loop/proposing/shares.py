"""Which of several agents works out the next experiment: who gained more per GPU hour lately gets more.

`search` has a part of its own beside agents with a model: it tunes what a keep of theirs has moved. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from loop.agents.search import tuning
from loop.agents.search.tuning import SEARCH
from loop.state import Experiment, RunState

RECENT = 20
"""The newest experiments that are looked at: what an agent can gain changes over a run."""
LEAST = 0.15
"""No agent's share is smaller, so that a change of luck is noticed."""
PRIOR = 4.0
"""Each agent is credited with the mean gain of so many experiments before its own count."""


def next_agent(state: RunState, names: Sequence[str]) -> str:
    """The agent that is furthest behind its share; of several the one named first. `names` has at least one.

    It follows from the state alone, so a restarted engine chooses the same.
    """
    if filler(names) and tuning.due(state.experiments, state.incumbent):
        return SEARCH
    wanted = shares(state, names)
    had = [e.agent for e in state.experiments[-RECENT:] if e.author == "agent" and e.agent in wanted]
    return max(wanted, key=lambda name: wanted[name] * (len(had) + 1) - had.count(name))


def filler(names: Sequence[str]) -> str:
    """The agent that needs no time to think beside others that do; empty where there is none."""
    return SEARCH if SEARCH in names and len(set(names)) > 1 else ""


def shares(state: RunState, names: Sequence[str]) -> dict[str, float]:
    """The share of the experiments that each agent is to have: in proportion to its gain per hour of training
    among the newest, but at least `LEAST`. The shares add up to 1."""
    each = list(dict.fromkeys(names))
    judged = [e for e in state.experiments if e.judged and e.author == "agent" and e.agent in each][-RECENT:]
    gains, hours = dict.fromkeys(each, 0.0), dict.fromkeys(each, 0.0)
    for e in judged:
        gains[e.agent] += gain(e)
        hours[e.agent] += _hours(e)
    total = sum(hours.values())
    mean = sum(gains.values()) / total if total else 0.0
    if not mean:
        return dict.fromkeys(each, 1 / len(each))
    credit = PRIOR * total / len(judged)
    rates = {name: (gains[name] + credit * mean) / (hours[name] + credit) for name in each}
    floor = min(LEAST, 1 / len(each))
    rest = 1 - floor * len(each)
    return {name: floor + rest * rate / sum(rates.values()) for name, rate in rates.items()}


def gain(e: Experiment) -> float:
    """What a keep has improved the metric by, less its standard error; 0 for all others."""
    if e.phase != "keep" or e.delta is None:
        return 0.0
    return max(0.0, abs(e.delta) - (e.stderr or 0.0))


def words(found: dict[str, float]) -> str:
    """`claude 62%, search 38%`."""
    return ", ".join(f"{name} {share:.0%}" for name, share in found.items())


def _hours(e: Experiment) -> float:
    return sum(t.finished_at - t.started_at for t in e.trainings if t.finished_at is not None) / 3600

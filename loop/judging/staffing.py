"""How many conversations with agents it takes to keep the seats busy, and how many the money allows. Pure."""

from __future__ import annotations

import math
from statistics import median

from loop.state import RunState

THINKING_S, OVERHEAD = 60.0, 1.1
"""Before anything is measured: seconds for one proposal, and a training's duration in budgets."""
RESERVE = 1.5
"""So many times the conversations that would do on average: proposals do not come evenly."""
RECENT = 15
"""The newest proposals and trainings that are looked at."""
MOST = 64
"""Conversations at once, however many seats there are."""


def proposers(state: RunState, seats: int) -> int:
    """How many conversations with agents should go on at once so that no seat has to wait for a candidate."""
    if seats == 1:
        return 1
    return max(1, min(MOST, seats, math.ceil(RESERVE * seats * thinking_s(state) / training_s(state))))


def affordable(state: RunState) -> int:
    """How many conversations at once the rest of the spending limit pays for, each of them twice over.

    Near the limit that is one: what is left need not be shared, and so is not stranded.
    """
    most, spent = state.limits.max_cost, state.usage.dollars
    if most is None or not spent:
        return MOST
    priced = sum(e.usage.dollars is not None for e in state.experiments)
    return max(1, int((most - spent) / (2 * spent / priced))) if priced else MOST


def thinking_s(state: RunState) -> float:
    """Seconds that a proposal usually takes."""
    found = [
        e.proposed_at - e.started_at
        for e in reversed(state.experiments[-4 * RECENT :])
        if e.author == "agent" and e.proposed_at is not None
    ]
    return median(found[:RECENT]) if found else THINKING_S


def training_s(state: RunState) -> float:
    """Seconds that a seat is usually taken by a training, the judge's work included."""
    found = [
        t.finished_at - t.started_at
        for e in reversed(state.experiments[-4 * RECENT :])
        for t in e.trainings
        if t.finished_at is not None and t.outcome == "finished"
    ]
    budget_s = state.engine.budget_s if state.engine else 300.0
    return max(1e-3, median(found[:RECENT])) if found else OVERHEAD * budget_s

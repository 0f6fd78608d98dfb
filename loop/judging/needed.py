"""What a training must show for its experiment to be kept, as a sentence to read while it trains. Pure.

It is what the verdict would be if the training ended now: another keep, or what later trainings say about
noise and drift, moves it.
"""

from __future__ import annotations

import math

from loop.judging import decision
from loop.judging.comparison import compare
from loop.judging.decision import Action
from loop.judging.history import Clock, Scale, history_of, noise_of, parts_of, scale_of, trainings_of
from loop.judging.level import Training
from loop.judging.rules import Rules
from loop.state import Experiment, RunState

REACH = 20.0
"""Deviations of one training within which the bound of a keep lies: a larger gain is always enough."""
HALVINGS = 30
"""How often the interval of the bound is halved: it is then exact to every digit shown."""


def needed(state: RunState, e: Experiment, rules: Rules) -> str:
    """What the next training of `e` must measure for a keep, e.g. `kept below 1.0812`."""
    side = "below" if state.direction == "min" else "above"
    if state.incumbent is None or state.best is None:
        return "it is the baseline: all others are compared with it"
    if state.incumbent == e.n:
        return "it measures the incumbent again: its mean and the noise become surer"
    noise = noise_of(state)
    if rules.rule == "improved" or noise.none:
        return f"kept {side} {state.best:.4f}"
    if not noise.known:
        return f"{side} {state.best:.4f} it trains again: the noise is not known yet"
    keep = _bound(state, e, rules, ("keep", "rerun incumbent"))
    more = _bound(state, e, rules, ("keep", "rerun", "rerun incumbent"))
    if keep is None:
        return "no single training decides: it trains again"
    words = f"kept {side} about {keep:.4f}"
    if more is not None and f"{more:.4f}" != f"{keep:.4f}":
        words += f", trains again up to {more:.4f}"
    return words


def _bound(state: RunState, e: Experiment, rules: Rules, wanted: tuple[Action, ...]) -> float | None:
    """The worst value at which rule `confirmed` takes one of the wanted actions; None where no value does."""
    assert state.incumbent is not None
    noise = noise_of(state)
    incumbent = state.experiment(state.incumbent)
    scale, clock = scale_of(state, noise), Clock(state, incumbent)
    history, lines = history_of(state, incumbent, noise, clock), e.added - e.removed
    parts = parts_of(state, e, scale, history.kinds)
    measured = trainings_of(e, scale, clock)
    price, best = decision.price_of(lines, rules), scale.of(state.best or 0.0)

    def takes(gain: float) -> bool:
        candidate = [*measured, Training(clock.at(math.inf), gain)]
        found = compare(history, candidate, price, parts)
        value = _value(scale, gain)
        return decision.decide(found, noise.deviation, value, lines, history.kinds, rules).action in wanted

    low, high = best - REACH, best + REACH
    if not takes(high):
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if takes(middle) else (middle, high)
    return _value(scale, high)


def _value(scale: Scale, gain: float) -> float:
    """The metric that a gain in deviations stands for."""
    return gain * scale.deviation / scale.sign

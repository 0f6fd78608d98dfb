"""Keep, discard or train again: what rule `confirmed` makes of a comparison, in plain words. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from loop.judging.comparison import Comparison
from loop.judging.gains import Kind, chance_rate
from loop.judging.rules import Rules

KEEP = 0.9
"""Chance of truly helping from which a candidate is kept."""
CERTAIN = 3.0
"""Standard errors of gain that are always enough, however seldom ideas have helped so far."""
HOPELESS = 0.3
"""Chance of truly helping below which no more training is spent on a candidate."""
FOUND = 0.5
"""Share of what new ideas bring that is found at once: with so much another training is compared."""
CLEAR = 1.7
"""Standard errors that a true gain must reach to be seen, when further trainings are counted."""
LOSS_BORNE = 1.0
"""Standard errors of loss that a simplification may show and still count as no loss."""
NEIGHBOURS = 4
"""Trainings that may lie between candidate and incumbent in a keep: the machine drifts."""
STALE = 40
"""Trainings after which the incumbent trains again, to see whether the machine has drifted."""
BEYOND_DRIFT = 0.01
"""Share of the metric that no drift of a machine reaches: a larger gain needs no training beside it."""
ENOUGH = 6
"""Trainings of an incumbent after which more are not worth their time."""

Action = Literal["keep", "discard", "rerun", "rerun incumbent"]


class Weighed(Struct, frozen=True):
    """What the evidence says to do, and why in words."""

    action: Action
    why: str
    evidence: str
    stderr: float | None = None


def price_of(lines: int, rules: Rules) -> float:
    """What so many more lines of code must gain, in standard deviations of one training."""
    return min(1.0, rules.line_price * max(0, lines))


def decide(
    found: Comparison, deviation: float, value: float, lines: int, kinds: tuple[Kind, ...], rules: Rules
) -> Weighed:
    """What becomes of a candidate.

    `deviation` is that of one training, `value` the candidate's metric, `lines` how many lines of code it
    adds (negative: removes), `kinds` what ideas do.
    """
    evidence, stderr = words(found, deviation), found.error * deviation
    helps = found.belief.helps
    if helps >= KEEP or found.gain - price_of(lines, rules) >= CERTAIN * found.error:
        small = found.gain * deviation < BEYOND_DRIFT * abs(value)
        if small and found.apart > NEIGHBOURS:
            why = f"{evidence}; the incumbent trains beside it first: the machine may have drifted"
            return Weighed("rerun incumbent", why, evidence, stderr)
        return Weighed("keep", evidence, evidence, stderr)
    simpler = lines < 0 and rules.line_price > 0 and found.gain >= -LOSS_BORNE * found.error
    if simpler and found.ours > 1 and found.theirs > 1:
        why = f"{evidence}; no loss beyond noise, and {-lines} lines fewer"
        return Weighed("keep", why, evidence, stderr)
    if found.apart > STALE:
        why = f"the incumbent trained {found.apart} trainings ago: again, to see whether the machine drifts"
        return Weighed("rerun incumbent", why, evidence, stderr)
    if found.ours < rules.max_runs and (simpler or worth_training(found, kinds)):
        if found.turns <= found.ours and found.turns < ENOUGH:
            why = f"{evidence}; a training of the incumbent helps to decide"
            return Weighed("rerun incumbent", why, evidence, stderr)
        return Weighed("rerun", f"{evidence}; one more training helps to decide", evidence, stderr)
    why = evidence
    if found.gain > 0:
        why += f", {KEEP:.0%} needed"
        if lines > 0 and rules.line_price > 0:
            why += f" beyond {price_of(lines, rules) * deviation:.6f} for {lines} lines more"
    return Weighed("discard", why, evidence, stderr)


def worth_training(found: Comparison, kinds: tuple[Kind, ...]) -> bool:
    """Another training of this candidate promises more gain than a training of a new idea."""
    belief = found.belief
    if belief.helps < HOPELESS:
        return False
    size = belief.upside / belief.helps
    needed = max(1.0, 1.5 * (CLEAR / max(size, 0.05)) ** 2 - found.ours)
    return belief.upside / needed >= FOUND * chance_rate(kinds)


def words(found: Comparison, deviation: float) -> str:
    """What was found, for someone who reads it for the first time."""
    gain = found.gain * deviation
    side = "better" if gain > 0 else "worse"
    amount = f"{abs(gain):.2g}" if abs(gain) >= 1e-4 else f"{abs(gain):.6f}"
    text = f"{side} by {amount} ({abs(found.gain) / found.error:.1f} standard errors"
    text += f" over {found.ours} and {found.theirs} trainings)" if found.ours > 1 else ")"
    text += f", chance that it truly helps {share(found.belief.helps)}"
    if found.level.drift:
        drift = abs(found.level.drift * deviation)
        text += f"; the machine has drifted by {drift:.2g}, only trainings since then count"
    return text


def share(chance: float) -> str:
    """A chance in percent; never 0% or 100%, because nothing is certain."""
    return "under 1%" if chance < 0.01 else "over 99%" if chance > 0.99 else f"{chance:.0%}"

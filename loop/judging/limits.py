"""When the engine pauses or ends the run by itself. Pure."""

from __future__ import annotations

from itertools import islice, takewhile

from loop.judging import goal
from loop.state import RunState
from loop.text import counted

LIMITS = ("limit reached", "goal reached")
"""How the reasons of limits that the human has set begin."""
NO_BASELINE = "the baseline gave no"


def is_over(reason: str) -> bool:
    """Whether a run that has ended for this reason is over: to go on, it needs other limits or other code."""
    return reason.startswith((*LIMITS, NO_BASELINE))


def reached(state: RunState, now: float) -> str | None:
    """The limit that is reached, as a sentence; None when none is.

    A human may resume in spite of a failed baseline, an unknown price or crashes in a row. After a resume
    these are checked again only once another experiment is judged.
    """
    fresh = state.judged_at_resume < 0 or state.rows > state.judged_at_resume
    return (
        (_no_baseline(state) if fresh else None) or _limit(state, now) or (_trouble(state) if fresh else None)
    )


def _no_baseline(state: RunState) -> str | None:
    """The unchanged code did not train to a number: there is nothing to improve on."""
    if state.incumbent is not None:
        return None
    judged = [e for e in state.experiments if e.judged]
    return f"{NO_BASELINE} {state.metric}: {judged[-1].reason}" if judged else None


def _limit(state: RunState, now: float) -> str | None:
    """A limit that the human has set. It stays reached until the human sets another one."""
    limits, dollars = state.limits, state.usage.dollars
    if found := goal.reached(limits, state.best, state.metric, state.direction):
        return found
    most = limits.max_experiments
    if most is not None and len(state.experiments) >= most and (rows := state.rows) >= most:
        return f"limit reached: {counted(rows, 'experiment')}"
    hours = (now - state.engine_started_at) / 3600
    if limits.max_hours is not None and hours >= limits.max_hours:
        return f"limit reached: {limits.max_hours:g} hour{'' if limits.max_hours == 1 else 's'}"
    if limits.max_cost is not None and dollars is not None and dollars >= limits.max_cost:
        return f"limit reached: ${dollars:.2f} spent of ${limits.max_cost:.2f}"
    return None


def _trouble(state: RunState) -> str | None:
    """Something that a human should look at before the run goes on."""
    limits = state.limits
    if limits.max_cost is not None and state.usage.dollars is None and state.usage.output_tokens:
        model = (state.engine.model if state.engine else "") or "this model"
        return f"no price is known for {model}: --max-cost cannot be kept, so set another limit"
    if limits.max_crashes is not None:
        newest = (e for e in reversed(state.experiments) if e.judged)
        crashes = list(islice(takewhile(lambda e: e.phase == "crash", newest), limits.max_crashes))
        if crashes and len(crashes) == limits.max_crashes:
            return f"{counted(len(crashes), 'crash')} in a row, the last: {crashes[0].reason}"
    return None

"""When the engine pauses or ends the run by itself. Pure."""

from __future__ import annotations

from loop.judging import goal
from loop.state import RunState


def reached(state: RunState, now: float) -> str | None:
    """The limit that is reached, as a sentence; None when none is.

    A human may resume in spite of a failed baseline, an unknown price or crashes in a row. After a resume
    these are checked again only once another experiment is judged.
    """
    fresh = state.rows > state.judged_at_resume
    return (
        (_no_baseline(state) if fresh else None) or _limit(state, now) or (_trouble(state) if fresh else None)
    )


def _no_baseline(state: RunState) -> str | None:
    """The unchanged code did not train to a number: there is nothing to improve on."""
    judged = [e for e in state.experiments if e.judged]
    return (
        f"the baseline gave no {state.metric}: {judged[-1].reason}"
        if judged and state.incumbent is None
        else None
    )


def _limit(state: RunState, now: float) -> str | None:
    """A limit that the human has set. It stays reached until the human sets another one."""
    limits, dollars = state.limits, state.usage.dollars
    if found := goal.reached(limits, state.best, state.metric, state.direction):
        return found
    if limits.max_experiments is not None and state.rows >= limits.max_experiments:
        return f"limit reached: {state.rows} experiments"
    hours = (now - state.engine_started_at) / 3600
    if limits.max_hours is not None and hours >= limits.max_hours:
        return f"limit reached: {limits.max_hours:g} hours"
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
        last = [e for e in state.experiments if e.judged][-limits.max_crashes :]
        if len(last) == limits.max_crashes and all(e.phase == "crash" for e in last):
            return f"{len(last)} crashes in a row, the last: {last[-1].reason}"
    return None

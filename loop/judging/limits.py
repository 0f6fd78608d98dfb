"""When to stop by itself. Pure."""

from __future__ import annotations

from loop.state import RunState


def reached(state: RunState, now: float) -> str | None:
    """The limit that is reached, as a sentence; None when none is."""
    limits, rows = state.limits, state.rows
    judged = [e for e in state.experiments if e.judged]
    if judged and state.incumbent is None:
        return f"the baseline gave no {state.metric}: {judged[-1].reason}"
    if limits.max_experiments is not None and rows >= limits.max_experiments:
        return f"limit reached: {rows} experiments"
    hours = (now - state.engine_started_at) / 3600
    if limits.max_hours is not None and hours >= limits.max_hours:
        return f"limit reached: {limits.max_hours:g} hours"
    dollars = state.usage.dollars
    if limits.max_cost is not None and dollars is None and state.usage.output_tokens:
        model = (state.engine.model if state.engine else "") or "this model"
        return f"no price is known for {model}: --max-cost cannot be kept, so set another limit"
    if limits.max_cost is not None and dollars is not None and dollars >= limits.max_cost:
        return f"limit reached: ${dollars:.2f} spent of ${limits.max_cost:.2f}"
    if limits.max_crashes is not None:
        last = judged[-limits.max_crashes :]
        if len(last) == limits.max_crashes and all(e.phase == "crash" for e in last):
            return f"{len(last)} crashes in a row, the last: {last[-1].reason}"
    return None

"""Why a run's number cannot be kept, whatever it says. Pure; a sentence a doubt, for agent and human."""

from __future__ import annotations

from collections.abc import Mapping

SLACK = 1.25
"""A trainer may go past its budget by its last step and by what its clock leaves out."""
SLACK_S = 60.0
SHORT = 0.5
"""Less of a budget than this is not the same experiment, where the unchanged code uses all of it."""


def doubts(
    summary: Mapping[str, float | str], budget_s: float, wall_s: float, steps_s: float, *, full: bool
) -> list[str]:
    """`wall_s` is the whole process and `steps_s` from its first progress line to its last, by our clock;
    `full`: the unchanged code uses its whole budget."""
    said = summary.get("training_seconds")
    claimed = said if isinstance(said, float) else 0.0
    most = SLACK * budget_s + SLACK_S
    found = []
    if max(claimed, steps_s) > most:
        found.append(f"it trained for {max(claimed, steps_s):.0f} s with a budget of {budget_s:g} s")
    if claimed > wall_s + 1:
        found.append(f"it says that it trained for {claimed:.0f} s, but it ran for {wall_s:.1f} s")
    if full and wall_s < SHORT * budget_s:
        found.append(f"it ended after {wall_s:.1f} s of a budget of {budget_s:g} s")
    return found

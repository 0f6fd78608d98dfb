"""Whether the number of a finished training can be believed.

Each function returns the reasons why it cannot, one sentence each, for agent and human; the list is empty
for a number that can be believed. `printed_flags` looks at a trainer that nobody judges by itself,
`unlike_baseline` holds a judged training against others. docs/verdicts.md tells what each of them stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from loop.events import TrainingFinished
from loop.state import RunState, Training

OVER, OVER_S = 0.02, 3.0
"""Share of the budget, or seconds where those are more, that a training may take longer than the baseline.

A training ends with a whole step, so it runs over a little. At budgets of seconds one step on a busy machine
takes longer than the share.
"""

SLACK, SLACK_S = 1.25, 60.0
"""Factor of the budget, and seconds besides, within which a trainer that is not ours has to end its training.

There is no baseline of our own to hold it to. So this allows for a long last step, and for start-up and
compilation, which many trainers leave out of their budget.
"""
SHORT = 0.5
"""Share of the budget that a process must last at least, where the unchanged code uses the whole budget."""

OVERFIT = 0.05
"""How much better, as a share, val may become than hidden before we suspect fitting to val.

Honest research stays within 1% (docs/verdicts.md).
"""


def printed_flags(
    summary: Mapping[str, float | str], budget_s: float, wall_s: float, steps_s: float, *, full: bool
) -> list[str]:
    """Reasons not to believe a number that was only printed, by a trainer which is not ours.

    It catches a training over its budget, one that claims more time than its process lived, and one that ends
    far too early to have trained. By the engine's clock the process lived for `wall_s`, with `steps_s` from
    its first progress line to its last. `summary` is what it printed at its end. `full` says whether the
    unchanged code uses its whole budget.
    """
    said = summary.get("training_seconds")
    claimed_s = said if isinstance(said, float) else 0.0
    trained_s = max(claimed_s, steps_s)
    found = []
    if trained_s > SLACK * budget_s + SLACK_S:
        found.append(f"it trained for {trained_s:.0f} s with a budget of {budget_s:g} s")
    if claimed_s > wall_s + 1:
        found.append(f"it says that it trained for {claimed_s:.0f} s, but it ran for {wall_s:.1f} s")
    if full and wall_s < SHORT * budget_s:
        found.append(f"it ended after {wall_s:.1f} s of a budget of {budget_s:g} s")
    return found


def unlike_baseline(state: RunState, training: Training) -> list[str]:
    """Reasons not to believe a judged number, found by comparing it with the baseline.

    It catches a measurement on other data, training for longer than the budget, and a metric that fell by
    fitting the text it is measured on. All is held against the baseline, so that no keep moves the measure.
    There is nothing to compare with when nobody judged the baseline, or when `training` is its first.
    """
    ended = training.finished
    usual = [(t, t.finished) for t in state.baseline_trainings if t.finished and t.finished.data]
    if ended is None or not usual or ended is usual[0][1]:
        return []
    found = []
    if ended.data != usual[0][1].data:
        found.append("it was measured on other data than the baseline")
    besides_s = max(end.used_seconds - of.budget_s for of, end in usual)
    over_s = ended.used_seconds - training.budget_s - besides_s
    if over_s > max(OVER * training.budget_s, OVER_S):
        found.append(
            f"over budget: {ended.used_seconds:.1f} s from start to exit with a budget of "
            f"{training.budget_s:g} s, {over_s:.1f} s more than the unchanged code needs"
        )
    ratios = [ratio for _, end in usual if (ratio := _hidden_ratio(end)) is not None]
    ratio = _hidden_ratio(ended)
    if ratios and ratio is not None and ratio < (1 - OVERFIT) * fmean(ratios):
        found.append("its number does not hold on text like that it is measured on")
    return found


def _hidden_ratio(ended: TrainingFinished) -> float | None:
    """The metric on the shown text over that on the hidden text; None where one of them is missing."""
    return ended.value / ended.hidden if ended.value and ended.hidden else None

"""Whether the number of a finished training can be believed.

Each function returns the reasons why it cannot, one sentence each, for agent and human; the list is empty
for a number that can be believed. `sealed_flags` and `printed_flags` look at one training by itself,
`unlike_baseline` holds it against others. docs/verdicts.md tells what each of them stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from msgspec import Struct

from loop.events import TrainingFinished
from loop.state import RunState, Training

OVER, OVER_S = 0.02, 3.0
"""Share of the budget, or seconds where those are more, by which a measured training time may exceed it.

A training ends with a whole step, so it always runs over a little. At budgets of seconds one step on a busy
machine takes longer than the share.
"""
UNSEEN_S = 10.0
"""Seconds of a process that the sealed evaluation cannot see: the interpreter starts before it is imported,
and the process ends after it has reported."""
PRINTED = 1e-5
"""By how much the printed metric may differ from the measured one. Six decimals are printed."""

SLACK, SLACK_S = 1.25, 60.0
"""Factor of the budget, and seconds besides, within which a trainer that is not ours has to end its training.

There is no sealed clock to hold it to. So this allows for a long last step, and for start-up and compilation,
which many trainers leave out of their budget.
"""
SHORT = 0.5
"""Share of the budget that a process must last at least, where the unchanged code uses the whole budget."""

LEFT_OUT, LEFT_OUT_S = 0.10, 5.0
"""Share of the budget, and seconds besides, that a clock may leave out more than the baseline's did."""
OVERFIT = 0.05
"""How much better, as a share, val may become than hidden before we suspect fitting to val.

Honest research stays within 1% (docs/verdicts.md).
"""


class Sealed(Struct, frozen=True):
    """The report of the sealed evaluation in the trainer's process; docs/formats.md names its file."""

    nonce: str
    """Secret number that this training got: it proves that the report is this training's."""
    val_bpb: float
    """The metric, on text that the research is judged by."""
    hidden_bpb: float | None = None
    """The metric on the hidden text, which no agent is told."""
    data: str = ""
    """Name of the data that it was measured on, made from its content."""
    training_seconds: float = 0.0
    """Time that counts against the budget."""
    excluded_seconds: float = 0.0
    """Start-up and warm-up steps, which do not count."""
    evaluation_seconds: float = 0.0
    total_seconds: float = 0.0
    """Seconds of the wall clock from the import of clock.py to the report."""
    steps: int = 0


def sealed_flags(sealed: Sealed, printed: float | None, budget_s: float, wall_s: float) -> list[str]:
    """Reasons not to believe a number of the sealed evaluation.

    It catches a training over its budget, one that did something outside the evaluator's clock, and one that
    printed another number. `printed` is the metric that it printed, `wall_s` is how long its process lived by
    the engine's clock.
    """
    found = []
    over_s = sealed.training_seconds - budget_s
    if over_s > max(OVER * budget_s, OVER_S):
        found.append(f"over budget: trained {sealed.training_seconds:.1f} s of {budget_s:g} s")
    unseen_s = wall_s - sealed.total_seconds
    if unseen_s > OVER * budget_s + UNSEEN_S:
        found.append(f"{unseen_s:.1f} s of its {wall_s:.1f} s passed outside the trainer's own clock")
    if printed is not None and abs(printed - sealed.val_bpb) > PRINTED:
        found.append(f"it printed val_bpb {printed:.6f}, measured was {sealed.val_bpb:.6f}")
    return found


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
    """Reasons not to believe a sealed number, found by comparing it with the baseline.

    It catches an evaluation on other data, training in the time that the clock leaves out, and a metric that
    fell by fitting the text it is measured on. All is held against the baseline, so that no keep moves the
    measure. There is nothing to compare with when the baseline had no sealed evaluation, or when `training`
    is the baseline's first.
    """
    ended, first = training.finished, _first_sealed(state)
    if ended is None or first is None or first is ended:
        return []
    found = []
    if ended.data != first.data:
        found.append("it was evaluated on other data than the baseline")
    left_out_s = ended.excluded_seconds - first.excluded_seconds
    if left_out_s > LEFT_OUT * training.budget_s + LEFT_OUT_S:
        found.append(f"its clock left out {left_out_s:.1f} s more than the baseline's")
    ratios = [_hidden_ratio(t.finished) for t in _baseline(state) if t.finished]
    usual = [ratio for ratio in ratios if ratio is not None]
    ratio = _hidden_ratio(ended)
    if usual and ratio is not None and ratio < (1 - OVERFIT) * fmean(usual):
        found.append("its number does not hold on text like that it is measured on")
    return found


def _first_sealed(state: RunState) -> TrainingFinished | None:
    """The first training of the unchanged code that had a sealed evaluation."""
    ends = [t.finished for t in _baseline(state)]
    return next((ended for ended in ends if ended and ended.data), None)


def _baseline(state: RunState) -> list[Training]:
    """The trainings of the unchanged code."""
    baseline = next((e for e in state.experiments if e.commit == state.base), None)
    return baseline.trainings if baseline else []


def _hidden_ratio(ended: TrainingFinished) -> float | None:
    """The metric on the shown text over that on the hidden text; None where one of them is missing."""
    return ended.value / ended.hidden if ended.value and ended.hidden else None

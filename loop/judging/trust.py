"""Why a run's number cannot be kept, whatever it says. Pure; a sentence a doubt, for agent and human."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from msgspec import Struct

from loop.events import TrainingFinished
from loop.state import RunState, Training

SLACK = 1.25
"""A trainer may go past its budget by its last step and by what its clock leaves out."""
SLACK_S = 60.0
SHORT = 0.5
"""Less of a budget than this is not the same experiment, where the unchanged code uses all of it."""


def printed_flags(
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


OVER = 0.02
"""Share of the budget that training may run over; the last step always does a little."""
OVER_S = 3.0
"""The same in seconds, for budgets so short that a step or two on a busy machine are more than that share."""
UNSEEN_S = 10.0
"""Seconds that a process may take beside what the evaluator saw of it: interpreter, end, a busy machine."""


class Sealed(Struct, frozen=True):
    """The evaluator's report; docs/formats.md tells the fields."""

    nonce: str
    val_bpb: float
    hidden_bpb: float | None = None
    data: str = ""
    training_seconds: float = 0.0
    excluded_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    total_seconds: float = 0.0
    steps: int = 0


def sealed_flags(sealed: Sealed, printed: float | None, budget_s: float, wall_s: float) -> list[str]:
    """Why a measured number cannot be kept all the same."""
    found = []
    over = sealed.training_seconds - budget_s
    if over > max(OVER * budget_s, OVER_S):
        found.append(f"over budget: trained {sealed.training_seconds:.1f} s of {budget_s:g} s")
    unseen = wall_s - sealed.total_seconds
    if unseen > OVER * budget_s + UNSEEN_S:
        found.append(f"{unseen:.1f} s of its {wall_s:.1f} s passed outside the trainer's own clock")
    if printed is not None and abs(printed - sealed.val_bpb) > 1e-5:
        found.append(f"it printed val_bpb {printed:.6f}, measured was {sealed.val_bpb:.6f}")
    return found


LEFT_OUT, LEFT_OUT_S = 0.10, 5.0
"""Share of the budget, and seconds besides, that a run's clock may leave out more than the baseline's did."""
UNLIKE = 0.05
"""Share by which val_bpb may fall further than it does on hidden text; honest changes stay within 1%."""


def unlike_baseline(state: RunState, training: Training) -> list[str]:
    """What makes a training unlike the baseline's or the incumbent's where they must be alike."""
    ended = training.finished
    baseline = next((e for e in state.experiments if e.commit == state.base), None)
    measured = [t.finished for t in baseline.trainings if t.finished and t.finished.data] if baseline else []
    if ended is None or not measured or measured[0] is ended:
        return []
    first = measured[0]
    found = []
    if ended.data != first.data:
        found.append("it was evaluated on other data than the baseline")
    left_out = ended.excluded_seconds - first.excluded_seconds
    if left_out > LEFT_OUT * training.budget_s + LEFT_OUT_S:
        found.append(f"its clock left out {left_out:.1f} s more than the baseline's")
    best = state.experiment(state.incumbent).trainings if state.incumbent else []
    ratios = [r for t in best if t.finished and (r := _hidden_ratio(t.finished)) is not None]
    ratio = _hidden_ratio(ended)
    if ratios and ratio is not None and ratio < (1 - UNLIKE) * fmean(ratios):
        found.append("its number does not hold on text like that it is measured on")
    return found


def _hidden_ratio(ended: TrainingFinished) -> float | None:
    """The metric on the shown text over that on the hidden text; None where one of them is missing."""
    return ended.value / ended.hidden if ended.value and ended.hidden else None

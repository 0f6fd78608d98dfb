"""Verdicts: what a finished run means. Pure functions of the state and the run."""

from __future__ import annotations

from msgspec import Struct

from loop.events import Status
from loop.state import Experiment, Run, RunState


class Verdict(Struct, frozen=True):
    """`value` is None for a crash; `delta` is value minus the incumbent's, None without an incumbent."""

    status: Status
    value: float | None
    memory_gb: float
    delta: float | None
    reason: str


def judge(state: RunState, experiment: Experiment) -> Verdict:
    """Judge an experiment whose last run has ended, by rule `improved`: a better metric is kept.

    A run that was stopped is discarded with its reason; one without a metric to believe is a crash.
    """
    run = experiment.last_run
    if run is None or run.outcome is None:
        raise ValueError(f"experiment {experiment.n} has no finished run")
    if run.outcome in ("stopped", "doomed"):
        return Verdict("discard", run.value, run.memory_gb, None, run.reason)
    if run.outcome != "finished" or run.value is None:
        return Verdict("crash", None, run.memory_gb, None, run.reason or f"no finite {state.metric}")
    return _compare(state, run, run.value)


def _compare(state: RunState, run: Run, value: float) -> Verdict:
    best = state.best
    if best is None:
        return Verdict("keep", value, run.memory_gb, None, "baseline")
    delta = value - best
    if state.better(value, best):
        reason = f"{state.metric} {best:.6f} -> {value:.6f} ({delta:+.6f})"
        return Verdict("keep", value, run.memory_gb, delta, reason)
    word = "the same as" if delta == 0 else f"{delta:+.6f} against"
    return Verdict(
        "discard", value, run.memory_gb, delta, f"{state.metric} {value:.6f}, {word} the incumbent"
    )

"""A run in words: the lines of `run --headless` and `logs`, and what `status` prints."""

from __future__ import annotations

import time
from typing import Any, TextIO

from loop import events as ev
from loop.state import RunState, Training
from loop.text import clean, counted


class Lines:
    """Writes a line with the time of day for each step of the loop."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, record: ev.Record) -> None:
        """Write the record's line, if it is about a step."""
        if words := line(record.event):
            clock = time.strftime("%H:%M:%S", time.localtime(record.t))
            print(f"{clock} {clean(words)}", file=self._stream, flush=True)


def line(event: ev.AnyEvent) -> str | None:
    """One line about an event; None for events that are no step of the loop, such as progress."""
    match event:
        case ev.RunCreated():
            return f"run {event.tag} from {event.base[:7]}, editing {event.editable}"
        case ev.EngineStarted():
            agent = f"{event.agent} {event.model}".strip()
            seats = f", {event.seats} seats" if event.seats > 1 else ""
            why = f" ({event.budget_why})" if event.budget_why else ""
            return (
                f"engine {event.pid} (version {event.version}), agent {agent}, "
                f"{event.budget_s:g} s a training{why}{seats}, sandbox {event.sandbox}"
            )
        case ev.EngineStopped():
            return f"engine stopped: {event.reason}"
        case ev.CandidateCommitted():
            return f"#{event.n} candidate {event.commit[:7]}: {event.description}"
        case ev.ApprovalRequested():
            return f"#{event.n} waits for approval"
        case ev.Rejected():
            return f"#{event.n} rejected: {event.reason}"
        case ev.TrainingStarted():
            why = f" ({event.why})" if event.why else ""
            seat = f" on seat {event.seat}" if event.seat else ""  # a single one is number 0
            return f"#{event.n} training{seat}, seed {event.seed}{why}"
        case ev.TrainingLost():
            return f"#{event.n} training {event.training} was lost ({event.reason}): it starts again"
        case ev.TrainingFinished(value=float() as measured):
            return f"#{event.n} training {event.training} measured {measured:.6f}"
        case ev.Judged():
            value = "" if event.value is None else f" {event.value:.6f}"
            return f"#{event.n} {event.status}{value}: {event.reason}"
        case ev.Paused():
            return f"paused: {event.reason}"
        case ev.Resumed():
            return "resumed"
        case ev.Preparing(text=text) if text:
            return text
        case ev.Notice(level="error"):
            return event.text
        case ev.AgentDelta(kind="error"):
            return f"#{event.n} agent: {event.text}"
    return None


def summary(state: RunState, now: float, *, running: bool, model: str | None = None) -> dict[str, Any]:
    """What `status --json` prints. `now` is in seconds since the epoch, `model` the incumbent's file."""
    training = state.training
    under_way = training.last_training if training else None
    best = state.best
    return {
        "tag": state.tag,
        "running": running,
        "pid": state.engine.pid if running and state.engine else None,
        "phase": state.phase if running else "stopped",
        "paused": state.paused,
        "agent": state.engine.agent if state.engine else None,
        "model": state.engine.model if state.engine else None,
        "sandbox": state.engine.sandbox if state.engine else None,
        "experiments": state.rows,
        "kept": state.kept,
        "crashed": state.crashed,
        "metric": state.metric,
        "baseline": state.baseline,
        "best": best,
        "incumbent": state.incumbent_commit or None,
        "model_file": model,
        "per_hour": state.per_hour(now),
        "dollars": state.usage.dollars,
        "seats": state.engine.seats if state.engine else None,
        "trainings": [{"n": t.n, "training": t.training, "seat": t.seat} for t in state.under_way if running],
        "training": training.n if training and running else None,
        "remaining_s": _left(under_way, now) if under_way and running else None,
    }


def _left(training: Training, now: float) -> float:
    return max(0.0, training.started_at + training.budget_s - now)


def words(summary: dict[str, Any]) -> str:
    """A summary in a few lines for people."""
    best, baseline = summary["best"], summary["baseline"]
    lines = [
        f"run {summary['tag']}: {summary['phase']}" + (f" (pid {summary['pid']})" if summary["pid"] else "")
    ]
    if summary["paused"] and summary["running"]:
        lines.append(f"paused: {summary['paused']}")
    lines.append(
        f"{counted(summary['experiments'], 'experiment')}, {summary['kept']} kept, "
        f"{summary['crashed']} crashed"
    )
    if summary["sandbox"] not in (None, "full"):
        lines.append(f"sandbox {summary['sandbox']}")
    if best is not None and baseline:
        gain = (best - baseline) / baseline * 100
        lines.append(f"best {summary['metric']} {best:.6f} ({gain:+.2f}% of the baseline {baseline:.6f})")
    if summary["model_file"]:
        lines.append(f"its model is {summary['model_file']}")
    if summary["training"] and (summary["seats"] or 1) > 1:
        numbers = ", ".join(f"{t['n']}" for t in summary["trainings"])
        lines.append(f"{len(summary['trainings'])} of {summary['seats']} seats train: experiments {numbers}")
    elif summary["training"]:
        lines.append(f"training experiment {summary['training']}, {summary['remaining_s']:.0f} s left")
    return "\n".join(map(clean, lines))

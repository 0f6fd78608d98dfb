"""Tells a researcher how a past training went: its loss beside that of the version it changed, its speed,
its memory, and where the time went.

It reads progress lines from the archive; otherwise it is pure.
"""

from __future__ import annotations

from statistics import median

from loop.agents.base import ResearchContext
from loop.events import Progress
from loop.experiment import Experiment

SHARES = 10
"""The loss is told at so many equal shares of the budget."""
NORMS = ("gnorm", "unorm")
"""Norms of the gradient and of the update, as a trainer may print them: fields of its progress lines."""


def report(context: ResearchContext, e: Experiment) -> str:
    """How the last training of an experiment went; empty when it printed no progress."""
    steps = context.archive.progress(e.n)
    if not steps:
        return ""
    other = context.parent(e)
    theirs = context.archive.progress(other.n) if other else []
    lines = [_time(e), _speed(steps, theirs, other), _head(steps, other)]
    lines += [_line(steps, theirs, k / SHARES) for k in range(1, SHARES + 1)]
    return "\n".join(line for line in lines if line)


def tokens_per_s(e: Experiment) -> float | None:
    """Tokens a second of its last finished training, from the summary that the trainer printed."""
    training = e.last_ended
    tokens = training.summary.get("total_tokens_M") if training else None
    end = training.finished if training else None
    if end is None or not isinstance(tokens, float) or end.training_seconds <= 0:
        return None
    return 1e6 * tokens / end.training_seconds


def short(count: float) -> str:
    """A count in three digits, such as `1.69M` or `48.2K`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:.3g}"


def _time(e: Experiment) -> str:
    """Seconds and memory of the last training that has ended."""
    training = e.last_ended
    end = training.finished if training else None
    if end is None:
        return ""
    rest = end.total_seconds - end.training_seconds - end.judge_seconds
    return (
        f"{end.total_seconds:.1f} s in all: {end.training_seconds:.1f} s of training, "
        f"{end.judge_seconds:.1f} s for the judge, {max(0.0, rest):.1f} s for start, "
        f"compiler and saving; peak {end.memory_gb:.1f} GB"
    )


def _speed(steps: list[Progress], theirs: list[Progress], other: Experiment | None) -> str:
    """Median tokens/s, step time and MFU over the second half, beside those of the version it changed."""
    said = []
    for label, name in (("tok/s", "tokens_per_s"), ("ms a step", "dt_ms"), ("% MFU", "mfu_percent")):
        own, before = _median(steps, name), _median(theirs, name)
        if own is not None:
            beside = f" (#{other.n}: {_plain(before)})" if other and before is not None else ""
            said.append(f"{_plain(own)} {label}{beside}")
    said.append(
        f"{steps[-1].step:,} steps" + (f" (#{other.n}: {theirs[-1].step:,})" if other and theirs else "")
    )
    return ", ".join(said)


def _plain(value: float) -> str:
    """A figure without an exponent: whole from a thousand on."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _median(steps: list[Progress], name: str) -> float | None:
    values = [getattr(step, name) for step in steps[len(steps) // 2 :]]
    known = [float(value) for value in values if value is not None]
    return median(known) if known else None


def _head(steps: list[Progress], other: Experiment | None) -> str:
    against = f" loss-of-#{other.n} difference" if other else ""
    norms = "".join(f" {name}" for name in NORMS if any(name in step.extra for step in steps))
    return f"share-of-budget loss{against}{norms}"


def _line(steps: list[Progress], theirs: list[Progress], share: float) -> str:
    """The losses and norms at a share of the budget; empty when it did not get there."""
    own, other = _at(steps, share), _at(theirs, share)
    if own is None or own.loss is None:
        return ""
    beside = ""
    if other is not None and other.loss is not None:
        beside = f" {other.loss:.4f} {own.loss - other.loss:+.4f}"
    norms = "".join(f" {own.extra[name]}" for name in NORMS if name in own.extra)
    return f"{share:.0%} {own.loss:.4f}{beside}{norms}"


def _at(steps: list[Progress], share: float) -> Progress | None:
    """The first progress line with a loss from about this share of the budget on."""
    from_here = (step for step in steps if step.fraction >= share - 0.01 and step.loss is not None)
    return next(from_here, None)

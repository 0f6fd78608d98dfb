"""What a training that has ended amounts to, from what it left in its folder."""

from __future__ import annotations

from loop import events as ev
from loop import text
from loop.judging import trust
from loop.records.training_folder import Exit
from loop.training import progress
from loop.training.executor import Job

FENCED = "the sandbox leaves training its own files, the data to read, and no network"


def finished(
    job: Job,
    exit: Exit,
    metric: str,
    *,
    steps_s: float = 0.0,
    changed: list[str] | None = None,
    uses_budget: bool = False,
    fenced: bool = False,
) -> ev.TrainingFinished:
    """The evaluator's own number where it proved it, else the printed one; and what speaks against it.

    `steps_s` is how long the training was seen making steps, `changed` which files it changed that are not
    its own, `uses_budget` whether the unchanged code trains for its whole budget.
    """
    log = job.folder.end_of_log()
    summary = progress.parse_summary(log[-65536:])
    sealed = job.folder.read_result()
    printed = progress.metric(summary, metric)
    value = sealed.val_bpb if sealed else printed
    outcome, reason = exit.outcome, exit.reason
    if outcome == "finished" and value is None:
        outcome, reason = "crashed", f"it printed no finite {metric}"
    elif outcome == "crashed":
        reason = _explain(reason, log, fenced)
    total_s = max(0.0, exit.ended - exit.started)
    flags = [f"it changed {', '.join(changed[:3])}"] if changed else []
    if sealed:
        flags += trust.sealed_flags(sealed, printed, job.budget_s, total_s)
    else:
        flags += trust.printed_flags(summary, job.budget_s, total_s, steps_s, full=uses_budget)
    return ev.TrainingFinished(
        job.n,
        job.training,
        outcome,
        reason=reason,
        exit_code=exit.exit_code,
        value=value if outcome == "finished" else None,
        memory_gb=_number(summary, "peak_vram_mb") / 1024,
        training_seconds=_number(summary, "training_seconds"),
        total_seconds=total_s,
        summary=summary,
        verified=sealed is not None,
        hidden=sealed.hidden_bpb if sealed else None,
        flags=flags if outcome == "finished" else [],
        data=sealed.data if sealed else "",
        excluded_seconds=sealed.excluded_seconds if sealed else 0.0,
    )


def _explain(reason: str, log: str, fenced: bool) -> str:
    """The reason of a crash with the last line it printed: mostly the exception."""
    lines = [line.strip() for line in text.tail(log, 20).splitlines() if line.strip()]
    if not lines or not reason.startswith("exit code"):
        return reason
    last = lines[-1][:200]
    hint = f"; {FENCED}" if fenced and last.startswith("PermissionError") else ""
    return f"{last} ({reason}{hint})"


def _number(summary: dict[str, float | str], name: str) -> float:
    value = summary.get(name)
    return value if isinstance(value, float) else 0.0

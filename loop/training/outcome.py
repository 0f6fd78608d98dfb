"""Makes the event TrainingFinished from what an ended training left in its folder."""

from __future__ import annotations

from loop import events as ev
from loop import text
from loop.judging import trust
from loop.records.training_folder import Exit
from loop.training import progress
from loop.training.executor import Job

FENCED = "the sandbox leaves training its own files, the data to read, and no network"
"""Added to the PermissionError of a trainer behind the fence, so that agents and humans know its cause."""


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
    """How the training ended, its value of `metric`, and reasons not to trust that value (`flags`).

    The value is the metric of the sealed evaluation if its proof is right, else the printed one. A training
    that finished without a finite value counts as crashed.

    `exit` is how its process ended, `steps_s` how long it was seen making steps, `changed` which files it
    changed although they are not the candidate's, `uses_budget` whether the unchanged code trains for its
    whole budget, and `fenced` whether it ran behind a fence.
    """
    log = job.folder.end_of_log()
    summary = progress.parse_summary(log[-65536:])
    sealed = job.folder.read_result()
    printed = progress.metric(summary, metric)
    value = sealed.val_bpb if sealed else printed
    outcome, reason = exit.outcome, exit.reason
    if outcome == "crashed":
        reason = _explain(reason, log, fenced)
    elif outcome == "finished" and value is None:
        outcome, reason = "crashed", f"it printed no finite {metric}"
    total_s = max(0.0, exit.ended - exit.started)
    if sealed:
        flags = trust.sealed_flags(sealed, printed, job.budget_s, total_s)
    else:
        flags = trust.printed_flags(summary, job.budget_s, total_s, steps_s, full=uses_budget)
    if changed:
        flags.insert(0, f"it changed {', '.join(changed[:3])}")
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
        model_bytes=job.folder.model_bytes() if outcome == "finished" else 0,
    )


def _explain(reason: str, log: str, fenced: bool) -> str:
    """The reason of a crash, together with the last line that was printed: usually the exception."""
    lines = [line.strip() for line in text.tail(log, 20).splitlines() if line.strip()]
    if not lines or not reason.startswith("exit code"):
        return reason
    last = lines[-1][:200]
    hint = f"; {FENCED}" if fenced and last.startswith("PermissionError") else ""
    return f"{last} ({reason}{hint})"


def _number(summary: dict[str, float | str], name: str) -> float:
    """A number of the summary; 0 when it is missing."""
    value = summary.get(name)
    return value if isinstance(value, float) else 0.0

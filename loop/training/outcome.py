"""What a run that has ended amounts to, from what it left on disk."""

from __future__ import annotations

from loop import events as ev
from loop import text
from loop.judging import trust
from loop.judging.trust import printed_flags
from loop.records.training_folder import Exit, TrainingFolder
from loop.training import progress

FENCED = "the sandbox leaves training its own files, the data to read, and no network"


def account(
    files: TrainingFolder,
    ended: Exit,
    n: int,
    run: Training,
    metric: str,
    *,
    steps_s: float = 0.0,
    changed: list[str] | None = None,
    full: bool = False,
    fenced: bool = False,
) -> ev.TrainingFinished:
    """The evaluator's own number where it proved it, else the printed one; and what speaks against it.

    `steps_s` is how long it was seen making steps, `changed` what it changed that is not its own, `full`
    whether the unchanged code uses its whole budget.
    """
    log = files.end_of_log()
    summary = progress.parse_summary(log[-65536:])
    sealed = files.read_result()
    printed = progress.metric(summary, metric)
    value = sealed.val_bpb if sealed else printed
    outcome, reason = ended.outcome, ended.reason
    if outcome == "finished" and value is None:
        outcome, reason = "crashed", f"it printed no finite {metric}"
    elif outcome == "crashed":
        reason = _explain(reason, log, fenced)
    total_s = max(0.0, ended.ended - ended.started)
    flags = [f"it changed {', '.join(changed[:3])}"] if changed else []
    if sealed:
        flags += trust.sealed_flags(sealed, printed, run.budget_s, total_s)
    else:
        flags += printed_flags(summary, run.budget_s, total_s, steps_s, full=full)
    return ev.TrainingFinished(
        n,
        run.number,
        outcome,
        reason,
        ended.exit_code,
        value if outcome == "finished" else None,
        _number(summary, "peak_vram_mb") / 1024,
        _number(summary, "training_seconds"),
        total_s,
        summary,
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

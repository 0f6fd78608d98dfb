"""Makes the event TrainingFinished from what an ended training left in its folder."""

from __future__ import annotations

import builtins
import math
import re
from pathlib import PurePosixPath

from msgspec.structs import replace

from loop import events as ev
from loop import text
from loop.judging import trust
from loop.records.training_folder import Exit, Judged, TrainingFolder
from loop.training import progress
from loop.training.executor import Job

FENCED = "the sandbox leaves training its own files, the data to read, and no network"
"""Added to the PermissionError of a trainer behind the fence, so that agents and humans know its cause."""
KNOWN_ERRORS = ("OutOfMemoryError", "UnpicklingError", "BackendCompilerFailed")
"""Exceptions of torch and pickle whose names an agent may be told, besides Python's own."""

ABOUT = 100
"""Characters of the judge's words about the data that are kept."""


def finished(
    job: Job,
    exit: Exit,
    metric: str,
    *,
    steps_s: float = 0.0,
    changed: list[str] | None = None,
    uses_budget: bool = False,
    place: str = "",
    fenced: bool = False,
) -> ev.TrainingFinished:
    """How the training ended, its value of `metric`, and reasons not to trust that value (`flags`).

    The value is what the judge measured; where a training has no judge, it is what the trainer printed. A
    training that finished without a finite value counts as crashed.

    `exit` is how its process ended, `steps_s` how long it was seen making steps, `changed` which files it
    changed although they are not the candidate's, `uses_budget` whether the unchanged code trains for its
    whole budget, `place` where it ran, and `fenced` whether it ran behind a fence.
    """
    log = job.folder.end_of_log()
    summary = progress.parse_summary(log[-65536:])
    total_s = max(0.0, exit.ended - exit.started)
    found = ev.TrainingFinished(
        job.n,
        job.training,
        exit.outcome,
        reason=exit.reason,
        exit_code=exit.exit_code,
        memory_gb=_number(summary, "peak_vram_mb") / 1024,
        training_seconds=_number(summary, "training_seconds"),
        total_seconds=total_s,
        judge_seconds=exit.judge_seconds,
        summary=summary,
        place=place,
    )
    if exit.outcome == "crashed" and not exit.judge_seconds:
        return replace(found, reason=_explain(exit.reason, log, fenced))
    if exit.outcome != "finished":
        return found
    if job.folder.has_judge():
        found = _with_judged(found, job, exit)
    elif (value := progress.metric(summary, metric)) is None:
        found = replace(found, outcome="crashed", reason=f"it printed no finite {metric}")
    else:
        flags = trust.printed_flags(summary, job.budget_s, total_s, steps_s, full=uses_budget)
        found = replace(found, value=value, flags=flags)
    if changed and found.outcome == "finished":
        found = replace(found, flags=[f"it changed {', '.join(changed[:3])}", *found.flags])
    return replace(found, model_bytes=job.folder.model_bytes())


def _with_judged(found: ev.TrainingFinished, job: Job, exit: Exit) -> ev.TrainingFinished:
    """What the judge found, put into the event of a training that finished."""
    judged = job.folder.read_judged() or Judged(failed="the judge left no result")
    if judged.refused:
        return replace(found, outcome="crashed", reason=f"refused by the judge: {judged.refused}")
    if judged.failed or judged.val_bpb is None or not math.isfinite(judged.val_bpb):
        reason = judged.failed or "the judge measured no finite number"
        return replace(found, outcome="crashed", reason=reason + where_it_failed(job.folder, job.editable))
    spec = job.folder.read_spec()
    on_cpu = spec is not None and spec.clock == "cpu"
    return replace(
        found,
        value=judged.val_bpb,
        verified=True,
        hidden=judged.hidden_bpb,
        data=judged.data,
        about=text.clean(judged.about)[:ABOUT],
        probes=judged.probes,
        used_seconds=exit.cpu_seconds if on_cpu else exit.trainer_seconds,
    )


EXCEPTION = re.compile(r"^([A-Za-z_]\w*Error|[A-Za-z_]\w*Exception)\b", re.MULTILINE)


def where_it_failed(folder: TrainingFolder, editable: str) -> str:
    """Where in its own file the candidate's code failed while it was asked, as words to put after a reason.

    The code has seen held-out text by then, and what it prints reaches no agent: not an exception's message,
    which could hold that text. Only the exception's name and a line's number are taken.
    """
    log = folder.end_of_judge_log()
    lines = re.findall(rf'File "[^"\n]*{re.escape(PurePosixPath(editable).name)}", line (\d{{1,6}})', log)
    names = [name for name in EXCEPTION.findall(log) if hasattr(builtins, name) or name in KNOWN_ERRORS]
    said = [*names[-1:], *(f"{editable}, line {line}" for line in lines[-1:])]
    return f" ({', '.join(said)})" if said else ""


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

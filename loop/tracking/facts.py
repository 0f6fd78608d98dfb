"""Says what a tracker is to know of an experiment, from the run's state, its commits and its files."""

from __future__ import annotations

import difflib
import hashlib
import math

from loop import events as ev
from loop.agents import hyperparameters
from loop.records.archive import KeptArchive
from loop.state import Experiment, RunState, Training
from loop.text import clean, one_line
from loop.tracking.tracker import Facts, Point

NAME_MOST = 80
"""Characters of a description that stand in an experiment's name."""
CURVES = ("loss", "lrm", "tokens_per_s", "mfu_percent")
"""What becomes a curve of a progress line."""
POINTS_MOST = 500
"""Points of one training that are sent at once; of more, evenly chosen ones."""


def facts(state: RunState, archive: KeptArchive, e: Experiment) -> Facts:
    """Everything but the curves of an experiment."""
    before, after = archive.before(e.n), archive.source(e.n)
    return Facts(
        id=f"{identity(state)}-{e.n:04d}",
        n=e.n,
        name=f"{e.n:04d} {one_line(e.description, NAME_MOST)}",
        started=e.trainings[0].started_at,
        config=_config(state, e, before, after),
        summary=_summary(state, e),
        diff=_diff(state.editable, before, after),
        ended=(e.judged or e.phase == "rejected") and not state.trains(e.n),
        crashed=e.phase == "crash",
    )


def identity(state: RunState) -> str:
    """12 hex digits for a run. Two machines may have a repository at the same place and a run of the same
    tag; they have not begun at the same moment."""
    key = f"{state.repository} {state.tag} {state.base} {state.created_at}"
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def points(training: Training, steps: list[ev.Progress]) -> list[Point]:
    """Progress lines of a training as points, those without any number left out."""
    found = [
        Point(training.number, step.step, training.started_at + step.fraction * training.budget_s, values)
        for step in steps
        if (values := {name: value for name in CURVES if (value := getattr(step, name)) is not None})
    ]
    return found[:: max(1, math.ceil(len(found) / POINTS_MOST))]


def _config(state: RunState, e: Experiment, before: str, after: str) -> dict[str, str | float]:
    device = "cuda" if state.engine and state.engine.gpu else "cpu"
    was = {h.name: h.value for h in hyperparameters.find(before, device)}
    now = {h.name: h.value for h in hyperparameters.find(after, device)}
    changed: dict[str, str | float] = {name: v for name, v in now.items() if was.get(name) != v}
    if e.commit == state.base:
        changed = {**now}  # the unchanged code: what all others are compared with
    return {
        **changed,
        "description": clean(e.description),
        "hypothesis": clean(e.hypothesis),
        "agent": e.agent or (state.engine.agent if state.engine else ""),
        "commit": e.commit,
        "parent": e.parent,
        "budget_s": e.trainings[0].budget_s,
        "seed": e.trainings[0].seed,
    }


def _summary(state: RunState, e: Experiment) -> dict[str, str | float]:
    """What is known at the end; before the verdict nothing but the phase."""
    found: dict[str, str | float] = {"status": e.phase}
    if e.last_ended is not None:
        found |= {k: v for k, v in e.last_ended.summary.items() if k != state.metric and not _is_odd(v)}
    if not e.judged:
        return found
    found |= {"reason": clean(e.reason), "trainings": len(e.values), "memory_gb": e.memory_gb}
    if e.evidence:
        found["evidence"] = clean(e.evidence)
    for name, value in ((state.metric, e.value), ("delta", e.delta), ("dollars", e.usage.dollars)):
        if value is not None:
            found[name] = value
    return found


def _is_odd(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _diff(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"a/{path}", f"b/{path}", lineterm=""
    )
    return "\n".join(map(clean, lines))

"""The models that trainings saved: where they are, and the deletion of those that are given up.

Which models are worth keeping is decided from the state (`loop.experiment.worth_keeping`).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from loop.paths import RunPaths
from loop.records.training_folder import TrainingFolder
from loop.state import RunState


async def thin(paths: RunPaths, state: RunState, n: int) -> None:
    """Delete the models of judged experiments that are not worth keeping, in a thread of its own.

    Those are the known ones, and what a training that failed may have left: one of experiment `n`, whose row
    was written now, or a rerun. This can be repeated: an engine that was killed meanwhile does it again.
    """
    kept = set(state.models_worth_keeping)
    given_up = [model for model in state.models if model not in kept]
    given_up += [
        (e.n, t.number)
        for e in state.experiments
        if e.judged and (len(e.trainings) > 1 or e.n == n)
        for t in e.trainings
        if t.finished and (e.n, t.number) not in kept
    ]
    await asyncio.to_thread(_delete, paths, given_up)


def _delete(paths: RunPaths, given_up: list[tuple[int, int]]) -> None:
    for n, training in given_up:
        TrainingFolder(paths.training(n, training)).remove_model()


def claims(paths: RunPaths, state: RunState) -> Path | None:
    """The file with what the incumbent's model claimed for each held-out token; None when there is none."""
    trainings = state.experiment(state.incumbent).trainings if state.incumbent else []
    found = [TrainingFolder(paths.training(t.started.n, t.number)).claims for t in trainings]
    return next((path for path in reversed(found) if path.exists()), None)


def find(paths: RunPaths, state: RunState, n: int) -> TrainingFolder | None:
    """The training whose model is kept for experiment `n`; None when none is kept or it is not on disk."""
    for experiment, training in state.models:
        folder = TrainingFolder(paths.training(experiment, training))
        if experiment == n and folder.model_bytes():
            return folder
    return None

"""A job whose training is only a folder, for tests that write its files themselves."""

from __future__ import annotations

from pathlib import Path

from loop.records.training_folder import TrainingFolder
from loop.training.executor import Job


def make_job(folder: Path, commit: str = "c", budget_s: float = 300.0) -> Job:
    """A job in `folder`, which is created empty."""
    job = Job(
        key="run-1-1-1",
        n=1,
        training=1,
        commit=commit,
        seed=1337,
        budget_s=budget_s,
        seat=0,
        folder=TrainingFolder(folder / "training"),
        editable="train.py",
    )
    job.folder.reset()
    return job

"""Chooses the executor that the settings name. The engine itself sees only the contract."""

from __future__ import annotations

from loop.config import Settings
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.training.executor import Executor
from loop.training.local import LocalExecutor


def make_executor(settings: Settings, paths: RunPaths, repository: Repository) -> Executor:
    """The executor for a run. A backend is imported when it is chosen.

    Raises `UsageError` when it cannot be used; a cluster that does not answer is given up after 10 s.
    """
    match settings.executor:
        case "ray":
            from loop.training.ray.executor import RayExecutor

            return RayExecutor(
                settings, paths, repository, settings.workers if settings.workers > 1 else None
            )
        case "slurm":
            from loop.training.slurm.executor import SlurmExecutor

            return SlurmExecutor(settings, paths, repository)
        case "local":
            return LocalExecutor(settings, paths, repository)

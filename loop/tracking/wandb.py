"""Weights & Biases: an experiment is a run, the research run is its group, the diff is an artifact.

Everything else is set by wandb's own environment variables: WANDB_API_KEY, WANDB_ENTITY, WANDB_PROJECT,
WANDB_BASE_URL, WANDB_MODE=offline.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import wandb

from loop.tracking.tracker import Facts, Place, Point


def open_tracker(place: Place, environ: Mapping[str, str]) -> Wandb:
    return Wandb(place, environ)


class Wandb:
    """Keeps a wandb run open for each experiment that trains."""

    def __init__(self, place: Place, environ: Mapping[str, str]) -> None:
        self._place = place
        self._project = environ.get("WANDB_PROJECT") or place.project
        self._folder = environ.get("WANDB_DIR") or str(place.folder)
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):  # diffs wait there until they are sent
            os.environ.setdefault(name, str(place.folder / "wandb-data"))
        self._runs: dict[int, Any] = {}
        offline = environ.get("WANDB_MODE") == "offline"
        later = f"kept offline; `wandb sync {self._folder}/wandb/offline-run-*` sends them"
        self.where = f"project {self._project}" + (f", {later}" if offline else "")

    def points(self, run: Facts, points: list[Point]) -> None:
        found = self._run(run)
        for point in points:
            values = {f"{point.prefix}/{name}": value for name, value in point.values.items()}
            found.define_metric(f"{point.prefix}/*", step_metric=f"{point.prefix}/step")
            found.log({f"{point.prefix}/step": point.step, **values})

    def describe(self, run: Facts) -> None:
        found = self._run(run)
        found.config.update(run.config, allow_val_change=True)
        found.summary.update(run.summary)
        if not run.ended:
            return
        diff = wandb.Artifact(f"diff-{run.id}", "diff")  # what is there already makes no new version
        with diff.new_file("change.diff", mode="w", encoding="utf-8") as file:
            file.write(run.diff)
        found.log_artifact(diff)
        found.finish(exit_code=int(run.crashed))
        del self._runs[run.n]

    def close(self) -> None:
        """An experiment that still trains is marked as stopped; it goes on when the engine does."""
        for found in self._runs.values():
            found.finish(exit_code=1)

    def _run(self, run: Facts) -> Any:
        """The wandb run of an experiment, which goes on if there is one."""
        if run.n not in self._runs:
            settings = wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_stats=True,  # this process's load says nothing about the training
                x_save_requirements=False,
            )
            self._runs[run.n] = wandb.init(
                project=self._project,
                dir=self._folder,
                id=run.id,
                name=run.name,
                group=self._place.group,
                resume="allow",
                reinit="create_new",
                settings=settings,
            )
        return self._runs[run.n]

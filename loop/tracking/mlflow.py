"""MLflow: an experiment of ours is a run of the MLflow experiment `PROJECT/TAG`, the diff is an artifact.

MLFLOW_TRACKING_URI and its companions say where; without it everything goes into the research run's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from loop.text import without_logins
from loop.tracking.tracker import Facts, Place, Point

ID = "autoresearch.id"
"""The tag by which an experiment's run is found again."""
BATCH = 900
"""Metrics in one request; MLflow takes 1,000."""
VALUE_MOST = 5000
"""Characters of a tag's value."""


def open_tracker(place: Place, environ: Mapping[str, str]) -> Mlflow:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # it is tried again anyway
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return Mlflow(place, environ.get("MLFLOW_TRACKING_URI", ""))


class Mlflow:
    """Speaks with an MLflow server, or with a database in a file."""

    def __init__(self, place: Place, uri: str) -> None:
        """`uri` is the server's address; empty for a database in the run's folder."""
        self._name = f"{place.project}/{place.group}"
        address = uri or f"sqlite:///{place.folder}/mlflow.db"
        self._files = None if uri else (place.folder / "mlflow-artifacts").as_uri()
        self.where = (
            f"{self._name} at {without_logins(address)}"
            if uri
            else f"`mlflow ui --backend-store-uri {address}`"
        )
        if not uri:
            _make_database(place.folder / "mlflow.db")
        self._client = MlflowClient(address)
        self._experiment = ""
        self._runs: dict[str, str] = {}

    def points(self, run: Facts, points: list[Point]) -> None:
        metrics = [
            Metric(f"{point.prefix}/{name}", value, int(point.t * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        id_ = self._run(run)
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(id_, metrics[start : start + BATCH])

    def describe(self, run: Facts) -> None:
        id_ = self._run(run)
        self._client.log_batch(id_, tags=list(_tags(run)))
        if not run.ended:
            return
        hyperparameters = {name: v for name, v in run.config.items() if name.isupper()}
        step, t = int(run.summary.get("trainings", 0)), int(run.started * 1000)
        self._client.log_batch(
            id_,
            [Metric(name, v, t, step) for name, v in run.summary.items() if not isinstance(v, str)],
            [Param(name, str(v)) for name, v in hyperparameters.items()],  # MLflow lets none change
        )
        self._client.log_text(id_, run.diff, "change.diff")
        self._client.set_terminated(id_, "FAILED" if run.crashed else "FINISHED")

    def close(self) -> None:
        """Nothing waits to be sent."""

    def _run(self, run: Facts) -> str:
        """The id of an experiment's run, which is made if there is none."""
        if run.id not in self._runs:
            found = self._client.search_runs([self._group()], f"tags.`{ID}` = '{run.id}'", max_results=1)
            made = found[0] if found else None
            if made is None:
                tags = {ID: run.id}
                made = self._client.create_run(self._group(), int(run.started * 1000), tags, run.name)
            self._runs[run.id] = made.info.run_id
        return self._runs[run.id]

    def _group(self) -> str:
        """The id of the MLflow experiment that holds all runs."""
        if not self._experiment:
            found = self._client.get_experiment_by_name(self._name)
            self._experiment = (
                found.experiment_id if found else self._client.create_experiment(self._name, self._files)
            )
        return self._experiment


def _make_database(file: Path) -> None:
    """Make the database if there is none. MLflow takes seconds for it, and a database that it was killed over
    is of no use any more: so it is made under another name first."""
    if not file.exists():
        draft = file.with_name(f"{file.name}.draft")
        draft.unlink(missing_ok=True)
        MlflowClient(f"sqlite:///{draft}")
        draft.rename(file)


def _tags(run: Facts) -> Iterator[RunTag]:
    """What may change: the words, and the values as they are now."""
    for name, value in {**run.config, **run.summary}.items():
        if isinstance(value, str) and value:
            yield RunTag(name, value[:VALUE_MOST])
    words = f"{run.config['description']}\n\n{run.summary.get('reason', '')}"
    yield RunTag("mlflow.note.content", words[:VALUE_MOST])

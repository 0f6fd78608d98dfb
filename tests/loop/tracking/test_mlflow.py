"""A real MLflow database in the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loop.tracking.follow import Follower
from loop.tracking.tracker import Place, open_tracker
from tests.loop.tracking.world import World

mlflow: Any = pytest.importorskip("mlflow", reason="pip install 'autoresearch-tui[mlflow]'")
pytestmark = pytest.mark.slow


def test_a_database_that_was_not_made_to_its_end_is_made_anew(world: World) -> None:
    world.night()
    (world.paths.folder / "mlflow.db.draft").write_bytes(b"half a database")
    track(world)
    assert sorted(runs(world.paths.folder)) == ["0001", "0002", "0003"]


def test_a_server_is_shown_without_the_password_in_its_address(world: World) -> None:
    environ = {"MLFLOW_TRACKING_URI": "https://me:pw@127.0.0.1:1/path"}
    tracker = open_tracker("mlflow", Place(world.paths.folder, "repo", "nov29"), environ)
    assert tracker.where == "repo/nov29 at https://127.0.0.1:1/path"


def track(world: World) -> None:
    follows = Follower("mlflow", world.paths, world.repository)
    tracker = open_tracker("mlflow", Place(world.paths.folder, "repo", "nov29"), {})
    follows.read()
    follows.sync(tracker)
    tracker.close()


def runs(folder: Path) -> dict[str, Any]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name("repo/nov29")
    return {run.info.run_name[:4]: run for run in client.search_runs([found.experiment_id])}


def test_an_experiment_is_a_run_with_curves_result_and_diff(world: World) -> None:
    _, last = world.night()
    track(world)
    assert runs(world.paths.folder)["0003"].info.status == "RUNNING"
    world.progress(3, 20)
    world.finish(3, last, 1.03, "discard")
    track(world)
    track(world)
    found = runs(world.paths.folder)
    assert sorted(found) == ["0001", "0002", "0003"]
    second = found["0002"]
    assert second.info.status == "FINISHED"
    assert second.data.metrics["val_bpb"] == 1.01
    assert second.data.params == {"LR": "0.05"}
    assert second.data.tags["reason"] == "better than luck"
    client = mlflow.MlflowClient(f"sqlite:///{world.paths.folder}/mlflow.db")
    history = client.get_metric_history(found["0003"].info.run_id, "train/loss")
    assert [point.step for point in history] == [0, 10, 20]
    artifact = client.download_artifacts(second.info.run_id, "change.diff")
    assert "+LR = 0.05" in Path(artifact).read_text()

"""The real wandb client, offline: its file holds what it would send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loop.tracking.follow import Follower
from loop.tracking.tracker import Place, open_tracker
from tests.loop.tracking.world import World

pytest.importorskip("wandb", reason="pip install 'autoresearch-tui[wandb]'")
pytestmark = pytest.mark.slow


def records(folder: Path) -> list[Any]:
    """Everything in the files of an experiment's wandb run, in the order in which it was written."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal import datastore

    found = []
    for file in sorted(folder.glob("*.wandb")):
        store = datastore.DataStore()
        store.open_for_scan(str(file))
        while data := store.scan_data():
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            found.append(record)
    return found


def track(world: World) -> None:
    follows = Follower("wandb", world.paths, world.repository)
    place = Place(world.paths.folder, "repo", "nov29")
    tracker = open_tracker("wandb", place, {"WANDB_MODE": "offline"})
    follows.read()
    follows.sync(tracker)
    tracker.close()


def test_an_experiment_is_a_run_with_curves_result_and_diff(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    _, last = world.night()
    track(world)
    world.progress(3, 20)
    world.finish(3, last, 1.03, "discard")
    track(world)
    track(world)
    folders = sorted((world.paths.folder / "wandb").glob("offline-run-*"))
    assert len(folders) == 4  # one for each experiment, and one more for the third, which went on
    everything = [record for folder in folders for record in records(folder)]
    runs = [r.run for r in everything if r.WhichOneof("record_type") == "run"]
    assert len({run.run_id for run in runs}) == 3
    assert {run.run_group for run in runs} == {"nov29"}
    second = [r for folder in folders if folder.name.endswith("-0002") for r in records(folder)]
    losses = [
        json.loads(item.value_json)
        for record in second
        for item in record.history.item
        if "/".join(item.nested_key) == "train/loss" or item.key == "train/loss"
    ]
    assert losses == [4.0, 3.75, 3.5]
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in second
        for item in record.summary.update
    }
    assert summary["val_bpb"] == 1.01
    assert summary["reason"] == "better than luck"
    assert any(r.request.WhichOneof("request_type") == "log_artifact" or r.HasField("artifact") for r in second)

"""The real wandb client, offline: its file holds what it would send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loop.tracking.follow import Follower
from loop.tracking.tracker import Place, open_tracker
from tests.loop.tracking.world import World

pytest.importorskip("wandb", reason="pip install 'autoresearch-tui[wandb]'")
pytestmark = pytest.mark.slow

BLOCK = 32 * 1024
WHOLE, LAST = 1, 4


def records(folder: Path) -> list[Any]:
    """Everything in the file of an experiment's wandb run, in the order in which it was written."""
    from wandb.proto import wandb_internal_pb2

    found = []
    (file,) = folder.glob("*.wandb")
    for data in log_entries(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        found.append(record)
    return found


def log_entries(content: bytes) -> Iterator[bytes]:
    """The entries of a file in LevelDB's log format (its doc/log_format.md): blocks of 32 KiB with pieces of
    entries, each behind checksum (4 bytes), length (2) and kind (1). wandb puts 7 bytes before all of it."""
    at, entry = 7, b""
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        entry += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            yield entry
            entry = b""


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
    kinds = {record.WhichOneof("record_type") for record in second}
    kinds |= {record.request.WhichOneof("request_type") for record in second}
    assert kinds & {"artifact", "log_artifact"}

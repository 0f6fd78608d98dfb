"""TensorBoard's own reader finds what was written."""

from __future__ import annotations

from typing import Any

import pytest

from loop.tracking.follow import Follower
from loop.tracking.tracker import Place, open_tracker
from tests.loop.tracking.world import World

pytest.importorskip("tensorboard", reason="pip install 'autoresearch-tui[tensorboard]'")


def read(world: World, n: int) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(world.paths.folder / f"tensorboard/{n:04d}")).Reload()


def track(world: World) -> None:
    """What a process that ends and starts again does."""
    follows = Follower("tensorboard", world.paths, world.repository)
    tracker = open_tracker("tensorboard", Place(world.paths.folder, "repo", "nov29"), {})
    follows.read()
    follows.sync(tracker)
    tracker.close()


def test_curves_verdict_and_diff_are_found_once(world: World) -> None:
    _, last = world.night()
    track(world)
    world.progress(3, 20)
    world.finish(3, last, 1.03, "discard")
    track(world)
    track(world)
    second, third = read(world, 2), read(world, 3)
    assert [(s.step, round(s.value, 2)) for s in second.Scalars("train/loss")] == [
        (0, 4.0), (25, 3.75), (50, 3.5),
    ]  # fmt: skip
    assert [s.step for s in third.Scalars("train/loss")] == [0, 10, 20]
    assert [round(s.value, 4) for s in third.Scalars("result/val_bpb")] == [1.03]
    words = second.Tensors("experiment/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "- **reason**: better than luck" in words
    assert "+LR = 0.05" in second.Tensors("diff/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "_hparams_/session_start_info" in second.summary_metadata

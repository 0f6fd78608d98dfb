"""The models on disk follow what the state says is worth keeping."""

from __future__ import annotations

from pathlib import Path

from loop import events as ev
from loop.paths import RunPaths
from loop.records import models
from loop.records.training_folder import TrainingFolder
from loop.state import RunState, fold


def history(status: ev.Status) -> list[ev.DurableEvent]:
    """Two trainings of the baseline, and one of experiment 2, which is judged so and not logged yet."""
    return [
        ev.RunCreated("t", "/r", "c1", "train.py", []),
        ev.EngineStarted(1, "0", "search", keep_models=0),
        ev.ExperimentStarted(1, "c1"),
        ev.CandidateCommitted(1, "c1", "c1", "baseline"),
        ev.TrainingStarted(1, 1, "c1", 1337, 300.0),
        ev.TrainingFinished(1, 1, "finished", value=2.0, model_bytes=1),
        ev.TrainingStarted(1, 2, "c1", 1338, 300.0),
        ev.TrainingFinished(1, 2, "finished", value=1.9, model_bytes=1),
        ev.Judged(1, "keep", "c1", 1.95, 0.5, "baseline"),
        ev.Logged(1),
        ev.ExperimentStarted(2, "c1"),
        ev.CandidateCommitted(2, "c2", "c1", "idea"),
        ev.TrainingStarted(2, 1, "c2", 1337, 300.0),
        ev.TrainingFinished(2, 1, "finished", value=1.5, model_bytes=1),
        ev.Judged(2, status, "c2", 1.5, 0.5, "verdict"),
        ev.ExperimentStarted(3, "c1"),
        ev.CandidateCommitted(3, "c3", "c1", "idea"),
        ev.TrainingStarted(3, 1, "c3", 1337, 300.0),
    ]


def run(root: Path, status: ev.Status) -> tuple[RunPaths, RunState]:
    paths = RunPaths(root, "t")
    state = fold(ev.Record(seq, float(seq), event) for seq, event in enumerate(history(status), 1))
    for e in state.experiments:
        for t in e.trainings:
            files = TrainingFolder(paths.training(e.n, t.number))
            files.out.mkdir(parents=True)
            files.model.write_text("m")
    return paths, state


def on_disk(paths: RunPaths) -> list[str]:
    found = paths.folder.rglob("model.pt")
    return sorted("/".join(path.parts[-4:-2]) for path in found)


async def test_what_is_not_worth_keeping_is_deleted_and_a_training_under_way_is_left_alone(
    tmp_path: Path,
) -> None:
    paths, state = run(tmp_path, "discard")
    for _ in range(2):
        await models.thin(paths, state, 2)
        assert on_disk(paths) == ["0001/training-2", "0003/training-1"]


async def test_a_new_incumbent_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    paths, state = run(tmp_path, "keep")
    await models.thin(paths, state, 2)
    assert on_disk(paths) == ["0002/training-1", "0003/training-1"]


async def test_a_kept_model_is_found_while_it_is_on_disk(tmp_path: Path) -> None:
    paths, state = run(tmp_path, "discard")
    found = models.find(paths, state, 1)
    assert found is not None
    assert found.model == paths.training(1, 2) / "out/model.pt"
    assert models.find(paths, state, 3) is None  # it still trains
    found.model.unlink()
    assert models.find(paths, state, 1) is None

"""What is kept of past experiments: read from a real repository and real folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop import events as ev
from loop.paths import RunPaths
from loop.records.archive import KeptArchive, read_transcript
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.state import RunState, fold
from tests.conftest import TRAINER, git

CHANGED = TRAINER.replace("X = 3.0", "X = 2.0")


class World:
    """A run with a baseline that trained twice, and a candidate that has not trained."""

    def __init__(self, root: Path) -> None:
        self.repository, self.paths = Repository.discover(root), RunPaths(root, "t")
        base = self.repository.head()
        (root / "train.py").write_text(CHANGED)
        git(root, "commit", "-qam", "candidate")
        candidate = self.repository.head()
        events: list[ev.AnyEvent] = [
            ev.RunCreated("t", str(root), base, "train.py", []),
            ev.ExperimentStarted(1, base),
            ev.CandidateCommitted(1, base, base, "baseline"),
            ev.TrainingStarted(1, 1, base, 1337, 300.0),
            ev.TrainingStarted(1, 2, base, 1338, 300.0),
            ev.ExperimentStarted(2, base),
            ev.CandidateCommitted(2, candidate, base, "idea"),
            ev.ExperimentStarted(3, candidate),
        ]
        self.state: RunState = fold(ev.Record(seq, float(seq), event) for seq, event in enumerate(events, 1))
        self.archive = KeptArchive(self.repository, self.paths, self.state)

    def folder(self, n: int, number: int) -> TrainingFolder:
        files = TrainingFolder(self.paths.training(n, number))
        files.reset()
        return files


@pytest.fixture
def world(repository: Path) -> World:
    return World(repository)


def test_sources_come_from_git_and_a_proposal_under_way_has_none_yet(world: World) -> None:
    assert (world.archive.before(2), world.archive.source(2)) == (TRAINER, CHANGED)
    assert (world.archive.before(3), world.archive.source(3)) == (CHANGED, "")


def test_log_and_curve_are_those_of_the_last_training(world: World) -> None:
    for number, loss in ((1, 3.0), (2, 2.0)):
        files = world.folder(1, number)
        files.log.write_bytes(b"\x1b[31mtraining %d\x1b[0m\n" % number)
        files.metrics.write_bytes(ev.encode(ev.Progress(1, number, 0, 0.5, loss)) + b"\n")
    assert world.archive.log(1) == "training 2\n"
    assert world.archive.curve(1) == [ev.CurvePoint(0.5, 2.0)]


def test_an_experiment_that_never_trained_has_no_log_though_an_earlier_idea_under_its_number_has(
    world: World,
) -> None:
    files = world.folder(2, 1)
    files.log.write_text("an earlier idea\n")
    files.metrics.write_bytes(ev.encode(ev.Progress(2, 1, 0, 0.5, 9.0)) + b"\n")
    assert (world.archive.log(2), world.archive.curve(2)) == ("", [])


def test_the_pieces_of_a_message_are_joined_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    pieces = [
        ev.AgentDelta(1, "text", "Try ", id="a"),
        ev.AgentDelta(1, "text", "less.", id="a"),
        ev.AgentDelta(1, "tool", "view", id="b", tool="view"),
        ev.AgentDelta(1, "human", "Hello"),
        ev.AgentDelta(1, "human", "again"),
    ]
    (tmp_path / "transcript.jsonl").write_bytes(b"\n".join(map(ev.encode, pieces)) + b'\n{"type":"Age')
    found = read_transcript(tmp_path / "transcript.jsonl")
    assert [(d.kind, d.text) for d in found] == [
        ("text", "Try less."), ("tool", "view"), ("human", "Hello"), ("human", "again"),
    ]  # fmt: skip
    assert read_transcript(tmp_path / "none") == []


def test_a_long_transcript_is_read_whole(tmp_path: Path) -> None:
    pieces = [ev.AgentDelta(1, "text", str(i), id=str(i)) for i in range(1000)]
    (tmp_path / "transcript.jsonl").write_bytes(b"\n".join(map(ev.encode, pieces)))
    assert [d.text for d in read_transcript(tmp_path / "transcript.jsonl")] == [str(i) for i in range(1000)]


def test_the_detail_of_an_experiment_holds_all_of_it(world: World) -> None:
    world.paths.experiment(2).mkdir(parents=True)
    delta = ev.AgentDelta(2, "text", "Try less.")
    world.paths.transcript(2).write_bytes(ev.encode(delta) + b"\n")
    assert world.archive.detail(2) == ev.ExperimentDetail(
        2, "train.py", before=TRAINER, after=CHANGED, transcript=[delta]
    )


def test_judged_experiments_are_curves_and_metrics_to_learn_from(world: World) -> None:
    files = world.folder(1, 2)
    lines = [ev.Progress(fraction=i / 10, loss=3.0 - i / 10) for i in range(1, 11)]
    files.metrics.write_bytes(b"".join(ev.encode(line) + b"\n" for line in lines))
    assert world.archive.ended(5) == [], "it has no verdict yet"
    commit = world.state.experiment(1).commit
    world.state.apply(ev.Record(20, 20.0, ev.Judged(1, "keep", commit, 1.25, 1.0, "")))
    found = world.archive.ended(5)
    assert [(len(one.curve), one.value) for one in found] == [(10, 1.25)]
    assert [step.loss for step in world.archive.progress(1)] == [line.loss for line in lines]


def test_only_the_curves_of_the_newest_experiments_stay_in_memory(world: World) -> None:
    """Each has up to 4,000 points, and a run has thousands of them."""
    for n, number in ((1, 2), (2, 1)):
        files = world.folder(n, number)
        files.metrics.write_bytes(ev.encode(ev.Progress(fraction=0.5, loss=float(n))) + b"\n")
    first, second = world.state.experiment(1), world.state.experiment(2)
    events: list[ev.DurableEvent] = [
        ev.Judged(1, "keep", first.commit, 1.25, 1.0, ""),
        ev.TrainingStarted(2, 1, second.commit, 1337, 300.0),
        ev.Judged(2, "keep", second.commit, 1.5, 1.0, ""),
    ]
    for seq, event in enumerate(events, 20):
        world.state.apply(ev.Record(seq, 20.0, event))
    assert [one.value for one in world.archive.ended(2)] == [1.25, 1.5]
    assert [one.value for one in world.archive.ended(1)] == [1.5]
    assert list(world.archive._curves) == [(2, 1)]

"""A tracker gets everything once, whatever ends and starts again meanwhile."""

from __future__ import annotations

import pytest

from loop import events as ev
from loop.errors import UNREADABLE
from loop.tracking.follow import Follower
from tests.loop.tracking.world import Remembers, World

NIGHT = [(1, 1, 0), (1, 1, 50), (2, 1, 0), (2, 1, 25), (2, 1, 50), (3, 1, 0), (3, 1, 10)]


def follower(world: World) -> Follower:
    return Follower("mine", world.paths, world.repository)


def look(follows: Follower, tracker: Remembers) -> None:
    follows.read()
    follows.sync(tracker)


def test_what_is_there_and_then_what_comes(world: World) -> None:
    _, last = world.night()
    tracker, follows = Remembers(), follower(world)
    look(follows, tracker)
    assert tracker.curves == NIGHT
    assert [(run.n, run.ended) for run in tracker.told] == [(1, True), (2, True), (3, False)]
    look(follows, tracker)
    assert len(tracker.curves) == len(NIGHT)
    assert len(tracker.told) == 3
    world.progress(3, 20, 30)
    look(follows, tracker)
    assert tracker.curves[len(NIGHT) :] == [(3, 1, 20), (3, 1, 30)]
    world.progress(3, 40)
    world.finish(3, last, 1.03, "discard")
    look(follows, tracker)
    assert tracker.curves[-1] == (3, 1, 40)
    assert (tracker.told[-1].n, tracker.told[-1].ended) == (3, True)
    assert tracker.told[-1].summary["status"] == "discard"


def test_a_new_follower_goes_on_without_doubles(world: World) -> None:
    world.night()
    look(follower(world), Remembers())
    world.progress(3, 20)
    tracker = Remembers()
    look(follower(world), tracker)
    assert tracker.curves == [(3, 1, 20)]
    assert tracker.told == []


def test_two_trackers_do_not_know_of_each_other(world: World) -> None:
    world.night()
    look(follower(world), Remembers())
    tracker = Remembers()
    look(Follower("other", world.paths, world.repository), tracker)
    assert tracker.curves == NIGHT


def test_what_failed_is_told_again(world: World) -> None:
    world.night()
    tracker, follows = Remembers(failures=4), follower(world)
    for _ in range(4):
        with pytest.raises(ConnectionError):
            look(follows, tracker)
    look(follows, tracker)
    assert tracker.curves == NIGHT
    assert [run.n for run in tracker.told] == [1, 2, 3]


def test_progress_that_a_new_engine_writes_anew_is_not_sent_twice(world: World) -> None:
    """An engine that adopts a training reads its log from the beginning, and thins it in another way."""
    world.night()
    tracker, follows = Remembers(), follower(world)
    look(follows, tracker)
    world.progress(3, 0, anew=True)
    look(follows, tracker)
    world.progress(3, 5, 10, 15)
    look(follows, tracker)
    assert tracker.curves[len(NIGHT) :] == [(3, 1, 15)]


def test_a_changed_verdict_and_one_more_training_are_told(world: World) -> None:
    kept, _ = world.night()
    tracker, follows = Remembers(), follower(world)
    look(follows, tracker)
    world.record(ev.Overridden(2, "discard", "I do not believe it"))
    look(follows, tracker)
    assert tracker.told[-1].summary["reason"] == "discard by hand: I do not believe it"
    world.record(ev.TrainingStarted(2, 2, kept, 1338, 300.0, why="asked for by hand"))
    world.progress(2, 0, 40, training=2)
    look(follows, tracker)
    assert tracker.curves[-2:] == [(2, 2, 0), (2, 2, 40)]
    assert not tracker.told[-1].ended
    world.record(ev.TrainingFinished(2, 2, "finished", value=1.03))
    look(follows, tracker)
    assert tracker.told[-1].ended
    assert tracker.told[-1].summary["val_bpb"] == pytest.approx(1.02)
    assert tracker.told[-1].summary["trainings"] == 2


def test_what_never_trained_is_not_told(world: World) -> None:
    world.record(ev.ExperimentStarted(1, world.base))
    world.record(ev.CandidateCommitted(1, world.base, world.base, "idea"), ev.Rejected(1, "no"))
    tracker = Remembers()
    look(follower(world), tracker)
    assert tracker.told == []


def test_a_note_that_is_no_note_counts_as_none(world: World) -> None:
    world.night()
    (world.paths.experiment(1) / "sent-mine.json").write_text("[[[")
    tracker = Remembers()
    look(follower(world), tracker)
    assert tracker.curves == NIGHT


def test_a_line_that_cannot_be_read_loses_none_of_the_others(world: World) -> None:
    _, last = world.night()
    tracker, follows = Remembers(), follower(world)
    look(follows, tracker)
    whole = world.paths.journal.read_bytes()
    world.paths.journal.write_bytes(whole + b'{"nonsense": 1}\n')
    world.finish(3, last, 1.03, "discard")
    for _ in range(2):
        with pytest.raises(UNREADABLE):
            follows.read()
    rest = world.paths.journal.read_bytes().replace(b'{"nonsense": 1}\n', b"")
    world.paths.journal.write_bytes(rest)
    look(follows, tracker)
    assert tracker.curves == NIGHT
    assert [(run.n, run.ended) for run in tracker.told[3:]] == [(3, True)]


def test_torn_lines_wait_for_their_end(world: World) -> None:
    world.night()
    metrics = world.paths.training(3, 1) / "metrics.jsonl"
    line = ev.encode(ev.Progress(3, 1, 20, 0.2, loss=3.0)) + b"\n"
    tracker, follows = Remembers(), follower(world)
    with metrics.open("ab") as file:
        file.write(line[:20])
        file.flush()
        look(follows, tracker)
        assert tracker.curves == NIGHT
        file.write(line[20:])
        file.flush()
        look(follows, tracker)
    assert tracker.curves[-1] == (3, 1, 20)

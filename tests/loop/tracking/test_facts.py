"""What a tracker is to know of an experiment."""

from __future__ import annotations

from loop import events as ev
from loop.records import journal
from loop.records.archive import KeptArchive
from loop.state import RunState, Training, fold
from loop.tracking import facts
from loop.tracking.tracker import Facts
from tests.loop.tracking.world import World


def told(world: World, n: int) -> Facts:
    state = fold(journal.read(world.paths.journal))
    return facts.facts(state, KeptArchive(world.repository, world.paths, state), state.experiment(n))


def test_a_keep(world: World) -> None:
    kept, _ = world.night()
    run = told(world, 2)
    assert run.name == "0002 LR to 0.05"
    assert run.id.endswith("-0002")
    assert {name: v for name, v in run.config.items() if name.isupper()} == {"LR": 0.05}
    assert (run.config["commit"], run.config["parent"]) == (kept, world.base)
    assert run.summary == {
        "status": "keep",
        "reason": "better than luck",
        "evidence": "p 99%",
        "val_bpb": 1.01,
        "delta": -0.01,
        "memory_gb": 1.5,
        "trainings": 1,
        "training_seconds": 300.0,
        "total_seconds": 310.0,
        "peak_vram_mb": 1536.0,
        "num_steps": 100.0,
    }
    assert "-LR = 0.04  # learning rate\n+LR = 0.05  # learning rate" in run.diff
    assert run.ended
    assert not run.crashed


def test_the_baseline_shows_all_that_others_may_change(world: World) -> None:
    world.night()
    run = told(world, 1)
    assert (run.config["LR"], run.config["DEPTH"]) == (0.04, 8)
    assert run.diff == ""


def test_while_it_trains_there_is_no_result(world: World) -> None:
    world.night()
    run = told(world, 3)
    assert run.summary == {"status": "training"}
    assert not run.ended


def test_texts_steer_no_terminal(world: World) -> None:
    world.night()
    world.record(ev.Overridden(2, "discard", "\x1b[31mred"))
    assert told(world, 2).summary["reason"] == "discard by hand: red"


def test_the_hidden_number_stays_here(world: World) -> None:
    """Agents that read files of this machine must not find it in a tracker's."""
    world.night()
    world.record(ev.TrainingFinished(2, 1, "finished", value=1.0, hidden=0.777))
    assert "0.777" not in repr(told(world, 2))


def test_runs_at_the_same_place_differ_by_their_beginning() -> None:
    one, other = RunState(tag="t", created_at=1.0), RunState(tag="t", created_at=2.0)
    assert facts.identity(one) != facts.identity(other)
    assert facts.identity(one) == facts.identity(RunState(tag="t", created_at=1.0))


def test_a_flood_of_points_is_thinned_and_lines_without_numbers_are_left_out() -> None:
    training = Training(ev.TrainingStarted(1, 1, "c", 1, 300.0), started_at=1000.0)
    steps = [ev.Progress(1, 1, step, 0.5, loss=1.0) for step in range(2000)]
    assert len(facts.points(training, steps)) == facts.POINTS_MOST
    assert facts.points(training, [ev.Progress(1, 1, 3, 0.5)]) == []
    assert facts.points(training, steps[:1])[0].t == 1150.0

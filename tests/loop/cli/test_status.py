"""A run in words."""

from __future__ import annotations

import io

from loop import events as ev
from loop.cli import status
from loop.state import fold

C = "c" * 40
EVENTS: list[ev.AnyEvent] = [
    ev.RunCreated("t", "/r", C, "train.py", []),
    ev.EngineStarted(77, "0.1", "claude", "opus", budget_s=300),
    ev.ExperimentStarted(1, C),
    ev.CandidateCommitted(1, C, C, "baseline"),
    ev.TrainingStarted(1, 1, C, 1337, 300),
    ev.TrainingFinished(1, 1, "finished", value=1.25),
    ev.Judged(1, "keep", C, 1.25, 0.5, "baseline"),
    ev.Logged(1),
    ev.ExperimentStarted(2, C),
    ev.CandidateCommitted(2, "d" * 40, C, "more heads"),
    ev.TrainingStarted(2, 1, "d" * 40, 1337, 300),
    ev.TrainingLost(2, 1, 1, "its supervisor was killed"),
]


def records() -> list[ev.Record]:
    return [ev.Record(seq, 1000.0 + seq, event) for seq, event in enumerate(EVENTS, 1)]


def test_the_headless_log_has_a_line_per_step() -> None:
    stream = io.StringIO()
    lines = status.Lines(stream)
    for record in records():
        lines.say(record)
    assert [line[9:] for line in stream.getvalue().splitlines()] == [
        "run t from ccccccc, editing train.py",
        "engine 77 (version 0.1), agent claude opus, 300 s a training, sandbox off",
        "#1 candidate ccccccc: baseline",
        "#1 training, seed 1337",
        "#1 training 1 measured 1.250000",
        "#1 keep 1.250000: baseline",
        "#2 candidate ddddddd: more heads",
        "#2 training, seed 1337",
        "#2 training 1 was lost (its supervisor was killed): it starts again",
    ]


def test_status_counts_and_counts_down() -> None:
    found = status.summary(fold(records()), 1111.0, running=True)
    assert (found["phase"], found["training"], found["remaining_s"], found["pid"]) == (
        "training",
        2,
        200.0,
        77,
    )
    assert (found["experiments"], found["kept"], found["best"]) == (1, 1, 1.25)
    assert status.words(found).splitlines() == [
        "run t: training (pid 77)",
        "1 experiment, 1 kept, 0 crashed",
        "sandbox off",
        "best val_bpb 1.250000 (+0.00% of the baseline 1.250000)",
        "training experiment 2, 200 s left",
    ]


def test_status_says_where_the_incumbents_model_is() -> None:
    found = status.summary(fold(records()), 1111.0, running=True, model="/r/model.pt")
    assert found["model_file"] == "/r/model.pt"
    assert "its model is /r/model.pt" in status.words(found).splitlines()


def test_status_of_a_killed_engine_claims_nothing_runs() -> None:
    found = status.summary(fold(records()), 9e9, running=False)
    assert (found["phase"], found["training"], found["remaining_s"], found["pid"]) == ("stopped",) + (
        None,
    ) * 3


def test_of_several_seats_it_says_which_train() -> None:
    events: list[ev.AnyEvent] = [
        *EVENTS[:1],
        ev.EngineStarted(7, "0", "search", seats=4),
        *EVENTS[2:4],
        ev.TrainingStarted(1, 1, C, 1337, 300.0, seat=0),
        ev.TrainingStarted(1, 2, C, 1338, 300.0, seat=3),
    ]
    state = fold(ev.Record(seq, 1.0, event) for seq, event in enumerate(events, 1))
    found = status.summary(state, 1.0, running=True)
    assert found["trainings"] == [
        {"n": 1, "training": 1, "seat": 0}, {"n": 1, "training": 2, "seat": 3},
    ]  # fmt: skip
    assert status.words(found).splitlines()[-1] == "2 of 4 seats train: experiments 1, 1"
    assert status.line(ev.TrainingStarted(1, 2, "c", 1338, 300.0, 3)) == "#1 training on seat 3, seed 1338"

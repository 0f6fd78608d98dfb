"""The training strip."""

from __future__ import annotations

import pytest
from textual.widgets import Static

from loop import events as ev
from loop.events import CurvePoint, Progress
from loop.state import SeatView, Training
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import Script, commit, night, training
from tui.keys import Keys
from tui.panels.training import (
    HERE,
    Meter,
    TrainingStrip,
    bar,
    idle,
    loss_at,
    needed,
    numbers,
    on_seat,
    standing,
    stopping,
)


async def test_a_stopped_engine_trains_nothing(cockpit: Open) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        connection.push(ev.EngineStopped("stopped by hand"))
        await settle(pilot)
        shown = str(pilot.app.query_one("#bar", Static).content)
        assert shown == "the engine stopped: stopped by hand"


def test_the_countdown_goes_on_while_the_trainer_is_silent() -> None:
    meter = Meter()
    assert meter.remaining(300, 0) is None
    meter.take(Progress(fraction=0.5, remaining_s=150), 1000)
    assert meter.remaining(300, 1000) == 150
    assert meter.remaining(300, 1010) == 140
    meter.take(meter.progress, 1020)
    assert meter.remaining(300, 1200) == 0


def test_the_title_says_where_it_trains() -> None:
    assert on_seat(None, SeatView()) == ""
    assert on_seat(None, SeatView(place=HERE)) == ""
    assert on_seat(None, SeatView(place="node\x1b[7")) == " on node[7"
    assert on_seat(3, SeatView()) == " on seat 3"
    assert on_seat(3, SeatView(place="node7")) == " on seat 3, node7"


def test_the_countdown_takes_what_the_trainer_says() -> None:
    """What is left, else its share of the budget, else the time since its first progress line."""
    for progress, left in (
        (Progress(step=1, fraction=0.5, remaining_s=100), 100),
        (Progress(step=1, fraction=0.25), 225),
        (Progress(step=1), 300),
    ):
        meter = Meter()
        meter.take(progress, 1000)
        assert meter.remaining(300, 1000) == left
    meter.take(Progress(step=900), 1120)  # says neither, as before
    assert meter.remaining(300, 1120) == 180
    meter.take(None, 1300)
    meter.take(Progress(step=1), 1310)  # the next training
    assert meter.remaining(300, 1310) == 300


def test_ahead_and_behind() -> None:
    reference = [CurvePoint(0.0, 4.0), CurvePoint(0.5, 3.0), CurvePoint(1.0, 2.0)]
    assert loss_at(reference, 0.25) == 3.5
    assert (loss_at(reference, -1), loss_at(reference, 2)) == (4.0, 2.0)
    assert standing([CurvePoint(0.25, 3.4)], reference)[0] == "0.100 ahead of the incumbent"
    assert standing([CurvePoint(0.25, 3.6)], reference)[0] == "0.100 behind the incumbent"
    assert standing([CurvePoint(0.25, 3.6)], []) == ("", "")


def test_it_says_when_the_engine_will_stop() -> None:
    script = night()
    assert stopping(script.state) == ""
    script.add(ev.EngineStopping("stopped by hand"))
    assert stopping(script.state) == "the engine stops after this training"
    script.add(ev.TrainingFinished(25, 1, "finished"))
    assert stopping(script.state) == ""
    assert idle(script.state, Keys()).plain == "the engine stops: stopped by hand"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("kept below 1.0812", "kept if val_bpb ends below 1.0812"),
        (
            "kept above about 0.9, trains again up to 0.8",
            "kept if val_bpb ends above about 0.9, trains again up to 0.8",
        ),
        (
            "below 1.1 it trains again: the noise is not known yet",
            "if val_bpb ends below 1.1 it trains again: the noise is not known yet",
        ),
        ("no single training decides: it trains again", "no single training decides: it trains again"),
        ("", ""),
    ],
)
def test_what_the_verdict_needs_is_a_sentence(told: str, shown: str) -> None:
    started = ev.TrainingStarted(2, 1, "c", 1, 300.0, needed=told)
    assert needed(Training(started, 0.0), "val_bpb") == shown
    assert needed(None, "val_bpb") == ""


async def test_a_stop_that_was_asked_for_is_shown_below_the_training(cockpit: Open) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        strip = pilot.app.query_one(TrainingStrip)
        assert "kept if val_bpb ends below about 0.9864" in str(strip.border_subtitle)
        connection.push(ev.EngineStopping("stopped by hand"))
        await settle(pilot)
        assert str(strip.border_subtitle) == "[$measure]the engine stops after this training[/$measure]"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (Script().begin(), "starting"),
        (Script().begin().add(ev.Preparing("preparing data: 41%")), "preparing data: 41%"),
        (Script().night(1).add(ev.Paused("by hand")), "paused: by hand   (space goes on)"),
        (
            Script().night(1).propose(2).train(2).add(ev.TrainingFinished(2, 1, "finished", value=0.9)),
            "experiment 2 has trained: its verdict is next",
        ),
        (Script().night(1).add(ev.ExperimentStarted(2, commit(1))), "the agent prepares experiment 2"),
        (
            Script().night(1).propose(2).add(ev.ApprovalRequested(2)),
            "experiment 2 waits for you: a approves, r rejects, e edits",
        ),
    ],
)
def test_it_says_why_nothing_trains(script: Script, text: str) -> None:
    assert idle(script.state, Keys()).plain == text


def test_the_figures_name_the_training_from_the_second_on() -> None:
    p = Progress(step=580, loss=2.31, tokens_per_s=1_690_000.0, mfu_percent=39.8, extra={"grad": "[1.0]"})
    assert numbers(p, 1, 1337, 100).plain == "loss 2.3100   step 580   1.69M tok/s   mfu 39.8%   grad [1.0]"
    assert numbers(None, 2, 1338, 100).plain == "training 2, seed 1338"
    assert bar(0.5, 10).plain == "━━━━━─────"

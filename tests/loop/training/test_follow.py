"""Reading what a trainer prints: output of any kind, and what is kept of it."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from loop import events as ev
from loop.live import SeatView
from loop.records import training_folder
from loop.training import follow
from loop.training.executor import Job
from tests.loop.training.jobs import make_job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def followed(job: Job, text: bytes) -> list[ev.LiveEvent]:
    job.folder.log.write_bytes(text)
    seen: list[ev.LiveEvent] = []
    follow.Follower(job, seen.append).close()
    return seen


@pytest.mark.parametrize(
    "line",
    [
        b"step 1 (..%) | loss: 1",
        b"step 1 (.%) | loss: 1",
        b"step " + b"9" * 5000 + b" | loss: 1",
        b"step 1 | loss: " + b"9" * 5000,
        "step \u0661 (\u0662%) | loss: 1".encode(),
        b"step 1 | loss: nan | mfu: inf%",
        b"\xff\xfe\x00" * 1000,
        b"\x1b[2J\x1b]0;owned\x07\x1b[31mred",
        b"x" * 3_000_000,
        b"\n" * 3_000_000,
    ],
    ids=itertools.count(),
)
def test_no_output_stops_the_follower_or_reaches_a_screen_raw(job: Job, line: bytes) -> None:
    began = time.monotonic()
    for event in followed(job, line + b"\nstep 2 (50%) | loss: 2.5\n"):
        ev.encode(event)
        if isinstance(event, ev.LogLines):
            assert "\x1b" not in event.text
            assert len(event.text) < 300_000
    assert training_folder.read_curve(job.folder.metrics)[-1] == ev.CurvePoint(0.5, 2.5)
    assert time.monotonic() - began < 2


def test_a_character_cut_in_two_by_reading_is_put_together(job: Job) -> None:
    seen: list[ev.LiveEvent] = []
    follower = follow.Follower(job, seen.append)
    whole = "déjà vu\n".encode()
    for cut in (2, len(whole)):
        job.folder.log.write_bytes(whole[:cut])
        follower.read()
    follower.close()
    assert [e.text for e in seen if isinstance(e, ev.LogLines)] == ["déjà vu"]


def test_a_log_becomes_phases_progress_and_lines(job: Job) -> None:
    text = b"phase: training\nhello\nstep 1 (25%) | loss: 3.5\nstep 2 (50%) | loss: 3\nno end"
    phase, progress, line, rest = followed(job, text)
    assert phase == ev.PhaseChanged(1, 1, "training")
    assert isinstance(progress, ev.Progress)
    assert (progress.n, progress.training, progress.step, progress.loss) == (1, 1, 2, 3.0)
    assert (line, rest) == (ev.LogLines(1, 1, "hello"), ev.LogLines(1, 1, "no end"))


def test_a_log_is_read_on_from_where_it_was(job: Job) -> None:
    seen: list[ev.LiveEvent] = []
    follower = follow.Follower(job, seen.append)
    for text in ("one\n", "tw", "o\n"):
        with job.folder.log.open("a") as log:
            log.write(text)
        follower.read()
    follower.close()
    assert seen == [ev.LogLines(1, 1, "one"), ev.LogLines(1, 1, "two")]


def test_the_loss_curve_and_losses_that_are_not_finite_are_kept(job: Job) -> None:
    follower = follow.Follower(job, lambda event: None)
    job.folder.log.write_text("step 1 (10%) | loss: 3\nstep 2 (20%) | loss: nan\nstep 3 (30%) | loss: inf\n")
    follower.read()
    assert follower.curve == [ev.CurvePoint(0.1, 3.0)]
    assert follower.nans == 2
    with job.folder.log.open("a") as log:
        log.write("step 4 (40%) | loss: 2\n")
    follower.close()
    assert follower.nans == 0
    assert training_folder.read_curve(job.folder.metrics)[-1] == ev.CurvePoint(0.4, 2.0)


def test_a_long_curve_is_thinned(job: Job) -> None:
    follower = follow.Follower(job, lambda event: None)
    for start in range(0, follow.CURVE_POINTS + 1000, 1000):
        with job.folder.log.open("a") as log:
            log.writelines(f"step {i} (1%) | loss: {i}\n" for i in range(start, start + 1000))
        follower.read()
    follower.close()
    assert len(follower.curve) <= follow.CURVE_POINTS
    assert (follower.curve[0].loss, follower.curve[-1].loss) == (0, follow.CURVE_POINTS + 999)


def test_the_time_from_the_first_step_to_the_last_is_measured(job: Job) -> None:
    follower = follow.Follower(job, lambda event: None)
    for step in (1, 2):
        with job.folder.log.open("a") as log:
            log.write(f"step {step} | loss: 1\n")
        follower.read()
        time.sleep(0.05)
    follower.close()
    assert 0.05 <= follower.steps_s < 5


AUTORESEARCH = (
    b"Vocab size: 8,192\nModel config: depth 8\nTime budget: 300s\nGradient accumulation steps: 1\n"
    b"\rstep 00000 (0.0%) | loss: 9.011000 | lrm: 1.00 | dt: 31204ms | tok/sec: 16,800 | mfu: 0.4% | "
    b"epoch: 1 | remaining: 300s    "
    b"\rstep 00952 (99.9%) | loss: 2.801234 | lrm: 0.00 | dt: 315ms | tok/sec: 1,664,406 | mfu: 39.8% | "
    b"epoch: 1 | remaining: 0s    \n"
    b"---\nval_bpb:          0.997900\ntraining_seconds: 300.1\npeak_vram_mb:     45060.2\n"
)
"""What the trainer of karpathy/autoresearch prints: carriage returns, trailing blanks, no phases."""


def test_the_output_of_autoresearchs_own_trainer_is_understood(job: Job) -> None:
    view = SeatView(job.n, job.training, "starting")
    phases = []
    for event in followed(job, AUTORESEARCH):
        assert isinstance(event, ev.Progress | ev.LogLines)
        view.take(event)
        phases.append(view.phase)
    assert phases == ["training", "done"]
    assert view.progress is not None
    assert view.progress.fraction == pytest.approx(0.999)
    assert (view.progress.remaining_s, view.progress.mfu_percent) == (0, 39.8)
    assert len(training_folder.read_curve(job.folder.metrics)) == 2

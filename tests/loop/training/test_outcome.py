"""What becomes of a training's folder: values, reasons of crashes, and flags."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loop import events as ev
from loop.judging.trust import Sealed
from loop.records import training_folder
from loop.records.training_folder import Exit, Spec
from loop.training import outcome
from loop.training.executor import Job
from tests.loop.training.jobs import make_job

SUMMARY = "---\nval_bpb: 0.98\ntraining_seconds: 300\npeak_vram_mb: 2048\nnum_steps: 953\n"
GOOD = Exit("finished", "", exit_code=0, started=1000.0, ended=1310.0)
CRASHED = Exit("crashed", "exit code 1", exit_code=1, started=1000.0, ended=1001.0)
NONCE = "secret"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def finished(job: Job, log: str, exit: Exit = GOOD, **more: object) -> ev.TrainingFinished:
    job.folder.log.write_text(log)
    return outcome.finished(job, exit, "val_bpb", **more)  # type: ignore[arg-type]


def seal(job: Job, nonce: str = NONCE, val_bpb: float = 0.98) -> None:
    """A report of the sealed evaluation, proven by this nonce."""
    spec = Spec([], "", {}, "", "", "", 60.0, commit=job.commit, proof=training_folder.proof_of(NONCE))
    job.folder.spec.write_bytes(msgspec.json.encode(spec))
    report = Sealed(
        nonce,
        val_bpb,
        hidden_bpb=0.99,
        data="corpus",
        training_seconds=300,
        excluded_seconds=7,
        total_seconds=308,
    )
    job.folder.result.write_bytes(msgspec.json.encode(report))


def test_a_printed_number_is_taken_and_not_verified(job: Job) -> None:
    found = finished(job, SUMMARY)
    assert (found.n, found.training, found.outcome, found.value) == (1, 1, "finished", 0.98)
    assert (found.memory_gb, found.training_seconds, found.total_seconds) == (2.0, 300.0, 310.0)
    assert (found.verified, found.hidden, found.flags) == (False, None, [])
    assert found.summary["num_steps"] == 953.0


def test_a_proven_report_goes_before_what_was_printed(job: Job) -> None:
    seal(job, val_bpb=0.97)
    found = finished(job, SUMMARY)
    assert (found.value, found.verified, found.hidden) == (0.97, True, 0.99)
    assert (found.data, found.excluded_seconds) == ("corpus", 7)
    assert found.flags == ["it printed val_bpb 0.980000, measured was 0.970000"]


def test_a_report_without_its_proof_is_not_taken(job: Job) -> None:
    seal(job, nonce="guessed", val_bpb=0.1)
    found = finished(job, SUMMARY)
    assert (found.value, found.verified) == (0.98, False)


@pytest.mark.parametrize("log", ["", "loss went down\n", "---\nval_bpb: nan\n", "---\nother: 1\n"])
def test_finishing_without_a_finite_number_is_a_crash(job: Job, log: str) -> None:
    found = finished(job, log)
    assert (found.outcome, found.reason) == ("crashed", "it printed no finite val_bpb")
    assert (found.value, found.flags) == (None, [])


def test_a_crash_is_explained_by_the_last_line_that_was_printed(job: Job) -> None:
    traceback = "Traceback (most recent call last):\nValueError: no such layer\n\n"
    assert finished(job, traceback, CRASHED).reason == "ValueError: no such layer (exit code 1)"
    assert finished(job, "", CRASHED).reason == "exit code 1"
    assert finished(job, "x" * 1000, CRASHED).reason == "x" * 200 + " (exit code 1)"


def test_a_refused_file_is_explained_by_the_fence_where_there_is_one(job: Job) -> None:
    log = "PermissionError: [Errno 13] Permission denied: '/root/.ssh'\n"
    assert finished(job, log, CRASHED, fenced=True).reason.endswith(f"(exit code 1; {outcome.FENCED})")
    assert outcome.FENCED not in finished(job, log, CRASHED).reason


def test_a_limit_is_its_own_explanation(job: Job) -> None:
    over = Exit("crashed", "used 3.0 GB of memory, limit 2.0 GB", exit_code=-15, started=0.0, ended=1.0)
    assert finished(job, "step 1\n", over).reason == "used 3.0 GB of memory, limit 2.0 GB"


def test_only_a_finished_training_has_a_value(job: Job) -> None:
    late = Exit("timeout", "still running after 600 s", exit_code=-15, started=0.0, ended=600.0)
    found = finished(job, SUMMARY, late)
    assert (found.outcome, found.value, found.flags) == ("timeout", None, [])
    assert found.reason == "still running after 600 s"


def test_the_size_of_a_saved_model_is_told_where_the_training_finished(job: Job) -> None:
    assert finished(job, SUMMARY).model_bytes == 0
    job.folder.model.write_bytes(b"x" * 77)
    assert finished(job, SUMMARY).model_bytes == 77
    assert finished(job, SUMMARY, CRASHED).model_bytes == 0


def test_changed_files_are_the_first_flag_and_at_most_three_are_named(job: Job) -> None:
    found = finished(job, SUMMARY, steps_s=900.0, changed=["a", "b", "c", "d"])
    assert found.flags[0] == "it changed a, b, c"
    assert found.flags[1] == "it trained for 900 s with a budget of 300 s"


def test_ending_early_is_a_flag_only_where_the_unchanged_code_uses_its_budget(job: Job) -> None:
    early = Exit("finished", "", exit_code=0, started=0.0, ended=20.0)
    log = "---\nval_bpb: 0.98\n"
    assert finished(job, log, early).flags == []
    assert finished(job, log, early, uses_budget=True).flags == ["it ended after 20.0 s of a budget of 300 s"]


def test_a_clock_that_was_set_back_gives_no_negative_time(job: Job) -> None:
    assert finished(job, SUMMARY, Exit("finished", "", 0, started=10.0, ended=5.0)).total_seconds == 0.0

"""What becomes of a training's folder: values, reasons of crashes, and flags."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loop import events as ev
from loop.records.training_folder import Exit, Judge, Spec
from loop.training import outcome
from loop.training.executor import Job
from tests.loop.training.jobs import make_job

SUMMARY = "---\nval_bpb: 0.98\ntraining_seconds: 300\npeak_vram_mb: 2048\nnum_steps: 953\n"
GOOD = Exit("finished", "", exit_code=0, started=1000.0, ended=1310.0)
CRASHED = Exit("crashed", "exit code 1", exit_code=1, started=1000.0, ended=1001.0)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def finished(job: Job, log: str, exit: Exit = GOOD, **more: object) -> ev.TrainingFinished:
    job.folder.log.write_text(log)
    return outcome.finished(job, exit, "val_bpb", **more)  # type: ignore[arg-type]


JUDGE = Judge(["judge"], [], {}, "", ["answers"], [], "model", "log", 60.0)


def judged(job: Job, clock: str = "", **report: object) -> None:
    """A training with a judge, and what that found."""
    spec = Spec([], "", {}, "", "", "", 60.0, commit=job.commit, clock=clock, judge=JUDGE)
    job.folder.write_spec(spec)
    job.folder.judged.write_bytes(msgspec.json.encode(report))


def test_a_printed_number_is_taken_and_not_verified(job: Job) -> None:
    found = finished(job, SUMMARY)
    assert (found.n, found.training, found.outcome, found.value) == (1, 1, "finished", 0.98)
    assert (found.memory_gb, found.training_seconds, found.total_seconds) == (2.0, 300.0, 310.0)
    assert (found.verified, found.hidden, found.flags) == (False, None, [])
    assert found.summary["num_steps"] == 953.0


def test_the_judges_number_counts_and_not_what_was_printed(job: Job) -> None:
    judged(job, val_bpb=0.97, hidden_bpb=0.99, data="corpus", probes=96)
    took = msgspec.structs.replace(GOOD, trainer_seconds=307.0, cpu_seconds=599.0, judge_seconds=9.0)
    found = finished(job, SUMMARY, took)
    assert (found.outcome, found.value, found.verified, found.hidden) == ("finished", 0.97, True, 0.99)
    assert (found.data, found.probes, found.used_seconds, found.judge_seconds) == ("corpus", 96, 307.0, 9.0)
    assert found.flags == []


def test_where_cpu_time_is_the_budget_the_cpu_time_of_all_processes_is_held_against_it(job: Job) -> None:
    judged(job, clock="cpu", val_bpb=0.97)
    took = msgspec.structs.replace(GOOD, trainer_seconds=307.0, cpu_seconds=599.0)
    assert finished(job, "", took).used_seconds == 599.0


def test_what_the_judge_refuses_is_a_crash_with_its_reason(job: Job) -> None:
    judged(job, refused="a claim was better than its proof", val_bpb=None)
    found = finished(job, SUMMARY)
    assert (found.outcome, found.value, found.verified) == ("crashed", None, False)
    assert found.reason == "refused by the judge: a claim was better than its proof"


@pytest.mark.parametrize("report", [{"val_bpb": None}, {}])
def test_without_a_number_of_the_judge_there_is_none(job: Job, report: dict[str, None]) -> None:
    judged(job, val_bpb=report.get("val_bpb"))
    found = finished(job, SUMMARY)
    assert (found.outcome, found.reason) == ("crashed", "the judge measured no finite number")
    job.folder.judged.unlink()
    assert finished(job, SUMMARY).reason == "the judge left no result"


TRACEBACK = """\
Traceback (most recent call last):
  File "/slot/answers.py", line 30, in main
  File "/slot/train.py", line 77, in forward
RuntimeError: the held-out text was: it is a truth universally acknowledged
"""


def test_where_the_candidates_code_failed_is_told_but_nothing_that_it_printed(job: Job) -> None:
    judged(job, failed="the claimant ended before it had answered")
    job.folder.judge_log.write_text(TRACEBACK)
    found = finished(job, SUMMARY)
    assert found.outcome == "crashed"
    assert found.reason == ("the claimant ended before it had answered (RuntimeError, train.py, line 77)")


@pytest.mark.parametrize(
    "log", ["", "TruthUniversallyAcknowledgedError: x\n", 'File "/slot/other.py", line 7\n', "\xff"]
)
def test_an_invented_exception_could_be_a_message_and_is_not_passed_on(job: Job, log: str) -> None:
    job.folder.judge_log.write_bytes(log.encode("latin-1"))
    assert outcome.where_it_failed(job.folder, "train.py") == ""


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

"""One experiment and its trainings, and the row that they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev
from loop.experiment import Experiment, Training, format_row
from loop.records.results import parse
from tests.loop.trainings import training

JUDGED = ev.Judged(2, "keep", "c1", 1.5, 0.5, "better", -0.25, "3.1 standard errors", 0.08)


def test_a_training_that_runs_has_no_outcome_and_no_value() -> None:
    running = Training(ev.TrainingStarted(1, 2, "c1", 1338, 300.0), started_at=5.0)
    assert (running.number, running.commit, running.seed, running.budget_s) == (2, "c1", 1338, 300.0)
    assert (running.outcome, running.value) == (None, None)


def test_a_training_that_has_ended_tells_what_its_end_said() -> None:
    assert (training(1, "c1", 1.5).outcome, training(1, "c1", 1.5).value) == ("finished", 1.5)
    assert (training(1, "c1", None).outcome, training(1, "c1", None).value) == ("crashed", None)


def test_only_finished_trainings_of_its_own_commit_count() -> None:
    e = Experiment(1, "p", commit="c1")
    e.trainings = [
        training(1, "c0", 9.0),  # of the candidate before its repair
        training(2, "c1", 1.5),
        training(3, "c1", None),
        training(4, "c1", 1.0, outcome="stopped"),
        training(5, "c1", 1.7),
        Training(ev.TrainingStarted(1, 6, "c1", 1342, 300.0), started_at=5.0),
    ]
    assert e.values == [1.5, 1.7]
    assert e.last_training is e.trainings[-1]


@pytest.mark.parametrize(
    ("phase", "judged"),
    [("proposing", False), ("queued", False), ("judging", False), ("rejected", False), ("keep", True),
     ("discard", True), ("crash", True)],
)  # fmt: skip
def test_a_verdict_is_what_gives_it_a_row(phase: str, judged: bool) -> None:
    assert Experiment(1, "p", phase).judged == judged  # type: ignore[arg-type]


def test_the_figures_of_a_verdict_are_nothing_before_there_is_one() -> None:
    e = Experiment(2, "p")
    assert (e.memory_gb, e.delta, e.stderr, e.evidence, e.last_training) == (0.0, None, None, "", None)
    e.verdict = JUDGED
    assert (e.memory_gb, e.delta, e.stderr, e.evidence) == (0.5, -0.25, 0.08, "3.1 standard errors")


def test_the_row_shows_the_value_of_today_and_the_memory_of_the_verdict() -> None:
    e = Experiment(2, "p", "keep", "c" * 40, "an idea", verdict=JUDGED, value=1.25)
    assert e.row == "ccccccc\t1.250000\t0.5\tkeep\tan idea"


@given(
    value=st.none() | st.floats(-1e6, 1e6),
    memory_gb=st.floats(0, 1000),
    description=st.text(),
)
def test_any_description_becomes_one_row_that_is_read_back(
    value: float | None, memory_gb: float, description: str
) -> None:
    row = format_row("a" * 40, value, memory_gb, "crash" if value is None else "keep", description)
    found = parse(row)
    assert found is not None
    assert "\n" not in row
    assert (found.commit, found.val_bpb) == ("a" * 7, None if value is None else float(f"{value:.6f}"))
    assert found.memory_gb == float(f"{memory_gb:.1f}")
    assert found.description == " ".join(found.description.split())

"""One experiment and its trainings, and the row that they become."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from loop import events as ev
from loop.experiment import Experiment, Model, Training, format_row, lineage, worth_keeping
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
    e.trainings = (
        training(1, "c0", 9.0),  # of the candidate before its repair
        training(2, "c1", 1.5),
        training(3, "c1", None),
        training(4, "c1", 1.0, outcome="stopped"),
        training(5, "c1", 1.7),
        Training(ev.TrainingStarted(1, 6, "c1", 1342, 300.0), started_at=5.0),
    )
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


# --- models ---


def judged(n: int, phase: str, *values: float | None) -> Experiment:
    """Experiment `n` with a training for each of these values."""
    e = Experiment(n, "p", phase=phase, commit=f"c{n}")  # type: ignore[arg-type]
    e.trainings = tuple(training(k, e.commit, value, n=n) for k, value in enumerate(values, 1))
    known = [value for value in values if value is not None]
    e.value = sum(known) / len(known) if known else None
    return e


NIGHT = [
    judged(1, "keep", 1.9, 1.7, 1.8),
    judged(2, "discard", 1.1),
    judged(3, "keep", 1.6),
    judged(4, "crash", None),
    judged(5, "keep", 1.4, 1.4),
    judged(6, "keep", 1.5),
    judged(7, "training", 1.0, None),
]
ALL = [(e.n, t.number) for e in NIGHT for t in e.trainings]


@pytest.mark.parametrize(
    ("saved", "incumbent", "most", "kept"),
    [
        (ALL, 5, 0, [(5, 1), (7, 1), (7, 2)]),
        (ALL, 5, 1, [(5, 1), (6, 1), (7, 1), (7, 2)]),
        (ALL, 5, 9, [(1, 2), (3, 1), (5, 1), (6, 1), (7, 1), (7, 2)]),
        (ALL, 1, 1, [(1, 2), (5, 1), (7, 1), (7, 2)]),  # by hand the incumbent may be any of them
        (ALL, None, 1, [(5, 1), (7, 1), (7, 2)]),
        ([(1, 1), (1, 3), (3, 1)], 5, 1, [(3, 1)]),  # the incumbent saved none
        ([(1, 1), (1, 3)], 1, 0, [(1, 3)]),
        ([], 5, 3, []),
    ],
)
def test_the_models_of_the_incumbent_and_of_the_best_keeps_are_worth_keeping(
    saved: list[Model], incumbent: int | None, most: int, kept: list[Model]
) -> None:
    assert worth_keeping(saved, NIGHT, incumbent, most, highest=False) == kept


def test_where_a_high_value_is_good_the_highest_are_kept() -> None:
    assert worth_keeping(ALL[:-2], NIGHT, 5, 1, highest=True) == [(1, 1), (5, 1)]


def test_the_model_of_a_candidate_before_its_repair_is_not_kept() -> None:
    e = judged(1, "keep", 1.5, 1.6)
    e.trainings = (training(1, "before", 1.5), *e.trainings[1:])
    assert worth_keeping([(1, 1), (1, 2)], [e], 1, 3, highest=False) == [(1, 2)]


def test_the_lineage_follows_the_parents_of_keeps() -> None:
    kept = [
        Experiment(1, "", "keep", "c1"),
        Experiment(3, "c1", "keep", "c3"),
        Experiment(4, "c3", "keep", "c4"),
    ]
    others = [Experiment(2, "c1", "discard", "c2")]
    assert [e.n for e in lineage([*kept, *others], "c4")] == [1, 3, 4]
    assert lineage(others, "c2") == []
    circle = [Experiment(1, "c2", "keep", "c1"), Experiment(2, "c1", "keep", "c2")]
    assert [e.n for e in lineage(circle, "c1")] == [2, 1]


def test_a_training_keeps_its_summary_as_text() -> None:
    """Thirty days of dictionaries would be a third of the engine's memory."""
    said: dict[str, float | str] = {"val_bpb": 1.25, "num_steps": 953.0, "device": "cpu"}
    event = ev.TrainingFinished(1, 1, "finished", value=1.25, summary=said)
    running = Training(ev.TrainingStarted(1, 1, "c1", 1337, 300.0), started_at=5.0)
    assert running.summary == {}
    running.ended(event, 330.0)
    assert running.summary == said == event.summary
    assert running.finished == structs.replace(event, summary={})
    assert msgspec.json.decode(msgspec.json.encode(running), type=Training) == running

"""What a model is told of the past: a table that keeps what matters, and when to try something else."""

from __future__ import annotations

import pytest

from loop.agents import history
from loop.experiment import Experiment
from tests.conftest import TRAINER
from tests.loop.agents.world import Past, baseline, context, long_run


def test_a_thousand_experiments_keep_what_matters() -> None:
    run = long_run(1000)
    table = history.table(context(n=1001, experiments=run), 37_000)
    assert len(table) <= 37_000
    rows = [int(line[1:].split()[0]) for line in table.splitlines() if line[0] == "#" and line[1].isdigit()]
    kept = {e.n for e in run if e.phase == "keep"}
    misses = sorted((e for e in run if e.phase == "discard"), key=lambda e: e.value or 0)[
        : history.NEAR_MISSES
    ]
    assert kept <= set(rows)
    assert {e.n for e in run[-history.LATEST :]} <= set(rows)
    assert {e.n for e in misses} <= set(rows)
    assert f"(left out: {1000 - len(rows)} of 1000 experiments:" in table
    assert rows == sorted(rows)


def test_a_short_run_is_told_whole() -> None:
    past = [
        baseline(),
        Experiment(
            2,
            "c1",
            "discard",
            "c2",
            "wider",
            value=1.2,
            added=3,
            removed=1,
            memory_gb=44.04,
            delta=0.2,
        ),
        Experiment(3, "c1", "crash", "c3", "deeper", reason="out of memory"),
        Experiment(4, "c1", "rejected", "c4", "dearer", reason="too dear"),
        Experiment(5, "c1", "training", "c5", "thinner"),
    ]
    given = context(n=6, experiments=past)
    assert history.table(given, 10_000).splitlines()[1:] == [
        "#1 keep 1.000000 0.0GB +0-0 baseline",
        "#2 discard 1.200000 +0.200000 44.0GB +3-1 wider",
        "#3 crash - 0.0GB +0-0 deeper (out of memory)",
        "#4 rejected - 0.0GB +0-0 dearer (too dear)",
    ]
    assert history.in_training(given) == "#5 thinner"


def test_a_stretch_without_a_keep_asks_for_another_kind_of_change() -> None:
    words = [
        "raise MATRIX_LR",
        "muon momentum 0.9",
        "warmup of 5%",
        "lower SCALE",
        "adam betas",
        "cosine schedule",
    ]
    past = [Experiment(n, "p", "discard", f"c{n}", w, value=2.0) for n, w in enumerate(words * 2, 2)]
    assert history.advice(context(experiments=[baseline(), *past[:7]])) == ""
    said = history.advice(context(experiments=[baseline(), *past]))
    assert "last 12 experiments brought no keep" in said
    assert "optimizer 4" in said
    assert "schedule 4" in said
    assert "different kind of change now: simplification or data order or architecture" in said


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        ("raise MATRIX_LR 0.02 -> 0.03", "hyperparameter"),
        ("Muon momentum 0.95 -> 0.9", "optimizer"),
        ("linear warmdown over 80%", "schedule"),
        ("depth 8 -> 9", "architecture"),
        ("halve the batch", "data order"),
        ("remove the softcap", "simplification"),
    ],
)
def test_kinds_of_change(description: str, kind: str) -> None:
    assert history.kind(context(), Experiment(2, "p", description=description)) == kind


def test_numbers_alone_are_one_kind_whatever_they_are_called() -> None:
    """A rut of small steps must not pass for work on optimizer, schedule and architecture."""
    sources = {2: TRAINER.replace("X = 3.0", "X = 2.0"), 3: TRAINER.replace("(X - 1) ** 2", "abs(X - 1)")}
    past = [
        baseline(),
        *(Experiment(n, "c1", "discard", f"c{n}", "muon momentum", value=2.0) for n in (2, 3)),
    ]
    given = context(experiments=past, archive=Past(sources))
    assert [history.kind(given, e) for e in past[1:]] == ["hyperparameter", "optimizer"]


def test_only_verdicts_since_the_last_keep_count() -> None:
    past = [baseline(), *(Experiment(n, "p", "discard", f"c{n}", value=2.0) for n in (2, 3))]
    past += [Experiment(4, "p", "keep", "c4", value=0.9), Experiment(5, "p", "crash", "c5")]
    past += [Experiment(6, "p", "training", "c6"), Experiment(7, "p", "rejected", "c7")]
    assert [e.n for e in history.since_last_keep(context(experiments=past))] == [5]


def test_the_best_near_misses_follow_the_direction_of_the_metric() -> None:
    past = [Experiment(n, "p", "discard", f"c{n}", "word " * 40, value=n / 1000) for n in range(1, 201)]
    low = history.table(context(n=201, experiments=past), 12_000)
    high = history.table(context(n=201, experiments=past, direction="max"), 12_000)
    assert "#1 discard" in low
    assert "#1 discard" not in high
    assert "#170 discard" in high
    assert "#170 discard" not in low


def test_what_is_told_of_an_experiment_is_one_line_without_control_characters() -> None:
    e = Experiment(2, "p", "crash", "c2", "deeper\n\x1b[31mnet", reason="out of\nmemory")
    assert history.row(e) == "#2 crash - 0.0GB +0-0 deeper net (out of memory)"


def test_conversations_at_once_work_on_a_kind_of_change_each() -> None:
    past = [
        baseline(),
        Experiment(2, "c1"),
        Experiment(3, "c1"),
        Experiment(4, "c1", "queued", "c4", "wider"),
    ]
    alone = context(n=3, experiments=past)
    assert history.side_by_side(alone) == history.focus(alone) == ""
    several = context(n=3, experiments=past, proposers=3)
    kinds = {history.focus(context(n=n, proposers=3)) for n in range(2, 8)}
    assert kinds == {history.OTHER, *history.KINDS}
    assert "Yours is: data order." in history.side_by_side(several)
    assert "Being worked out beside you: #2 (schedule)." in history.side_by_side(several)
    assert "#4 wider" in history.in_training(several), "what waits for a seat is told too"
    assert history.advice(context(n=80, experiments=long_run(79), proposers=3)) == ""

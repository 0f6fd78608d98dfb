"""Rows of results.tsv that this run did not write."""

from __future__ import annotations

from loop import events as ev
from loop.experiment import format_row
from loop.records import other_rows
from loop.records.results import HEADER
from loop.state import fold

C = "c" * 40
OWN = format_row(C, 1.25, 2.0, "keep", "baseline")
EVENTS: list[ev.AnyEvent] = [
    ev.RunCreated("t", "/r", C, "train.py", []),
    ev.ExperimentStarted(1, C),
    ev.CandidateCommitted(1, C, C, "baseline"),
    ev.TrainingStarted(1, 1, C, 1337, 300.0),
    ev.TrainingFinished(1, 1, "finished", "", 0, 1.25, 2.0, 300.0),
    ev.Judged(1, "keep", C, 1.25, 2.0, "baseline"),
]
STATE = fold(ev.Record(seq, 1000.0 + seq, event) for seq, event in enumerate(EVENTS, 1))


def test_own_rows_and_the_header_are_left_out_each_once() -> None:
    theirs = "baseline\t0.997900\t44.0\tkeep\tbaseline"
    assert other_rows.rows([HEADER, theirs, OWN, "", OWN], STATE) == [
        theirs,
        OWN,
    ]  # the second copy is not ours


def test_a_row_becomes_an_experiment_of_which_no_more_is_known() -> None:
    rows = [
        "baseline\t0.997900\t44.0\tkeep\tbaseline",
        "not a row",
        "a1b2c3d\t0.000000\t0.0\tcrash\tdouble the width",
        "a1b2c3e\tnan\tmuch\tdiscard\ttabs\tin here",
        "a1b2c3f\t0.98\t44.0\tmaybe\tunknown status",
    ]
    found = other_rows.experiments(rows)
    assert [(e.n, e.commit, e.value, e.memory_gb, e.phase, e.description) for e in found] == [
        (-5, "baseline", 0.9979, 44.0, "keep", "baseline"),
        (-3, "a1b2c3d", None, 0.0, "crash", "double the width"),
        (-2, "a1b2c3e", None, 0.0, "discard", "tabs"),
    ]

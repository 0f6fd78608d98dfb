"""Rows of results.tsv that this run did not write."""

from __future__ import annotations

from pathlib import Path

import msgspec

from loop import events as ev
from loop.experiment import format_row
from loop.records import other_rows, results
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


def test_a_row_with_bytes_that_are_no_text_can_be_sent_to_a_client(tmp_path: Path) -> None:
    (tmp_path / "results.tsv").write_bytes(b"a1b2c3d\t0.900000\t1.0\tkeep\tcaf\xe9\n")
    found = other_rows.rows(results.lines(tmp_path / "results.tsv"), STATE)
    assert found == ["a1b2c3d\t0.900000\t1.0\tkeep\tcaf\ufffd"]
    assert msgspec.json.decode(ev.encode(ev.Reply(1, True, rows=found)), type=ev.Reply).rows == found


def test_every_row_of_a_run_is_read_back_as_it_was_judged() -> None:
    (e,) = STATE.experiments
    (read,) = other_rows.experiments([e.row])
    assert (read.commit, read.value, read.memory_gb, read.phase, read.description) == (
        C[:7], 1.25, 2.0, "keep", "baseline",
    )  # fmt: skip
    assert read.judged
    assert read.row == e.row

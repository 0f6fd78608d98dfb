"""Journals of version 0.1.0 are read, and continued, as if today's version had written them."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loop import events as ev
from loop.cli import logs
from loop.paths import RunPaths
from loop.records import journal, older_format
from loop.records.journal import Journal
from loop.state import Experiment, RunState, fold

FIXTURES = Path(__file__).parent / "fixtures"
RECORDED = FIXTURES / "journal-0.1.0.jsonl"
"""A real journal of version 0.1.0: baseline, keeps, repair, approval, rejection, stop, rerun, override."""
STATE: dict[str, Any] = json.loads((FIXTURES / "state-0.1.0.json").read_text())
"""What version 0.1.0 itself made of that journal."""


def record(event: str) -> bytes:
    """A journal line around the JSON of an event."""
    return b'{"type":"record","seq":1,"t":5.0,"event":' + event.encode() + b"}"


def told(e: Experiment) -> dict[str, Any]:
    """An experiment in the words of the recorded state."""
    return {
        "n": e.n, "phase": e.phase, "commit": e.commit, "parent": e.parent, "description": e.description,
        "value": e.value, "memory_gb": e.memory_gb, "delta": e.delta, "evidence": e.evidence,
        "reason": e.reason, "logged": e.logged, "by_hand": e.by_hand, "row": e.row, "author": e.author,
        "approved": e.approved, "started_at": e.started_at, "finished_at": e.finished_at,
        "usage": msgspec.to_builtins(e.usage),
        "trainings": [
            {
                "number": t.number, "seed": t.seed, "commit": t.commit, "outcome": t.outcome,
                "value": t.value, "reason": t.finished.reason if t.finished else "",
                "started_at": t.started_at, "finished_at": t.finished_at,
            }
            for t in e.trainings
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def state() -> RunState:
    return fold(journal.read(RECORDED))


@pytest.mark.parametrize("index", range(len(STATE["experiments"])))
def test_every_experiment_of_an_older_journal_is_what_its_own_version_made_of_it(
    state: RunState, index: int
) -> None:
    assert told(state.experiments[index]) == STATE["experiments"][index]


def test_the_run_of_an_older_journal_stands_where_its_own_version_left_it(state: RunState) -> None:
    assert len(state.experiments) == len(STATE["experiments"])
    names = [
        "tag", "base", "seq", "incumbent", "baseline", "stopped", "paused", "approval", "steering",
        "rows", "kept", "crashed",
    ]  # fmt: skip
    assert {name: getattr(state, name) for name in names} == {name: STATE[name] for name in names}
    assert state.reruns_asked == STATE["reruns"]
    assert state.usage.dollars == STATE["dollars"]
    assert [started.n for started in state.under_way] == [STATE["running"]]


def test_the_number_of_trainings_behind_an_older_verdict_is_not_lost() -> None:
    line = record(
        '{"type":"Judged","n":1,"status":"keep","commit":"c","value":1.0,"memory_gb":0.5,"reason":"baseline",'
        '"runs":3,"incumbent":"","copies":0}'
    )
    event = journal.decode(line).event
    assert isinstance(event, ev.Judged)
    assert event.trainings == 3


def test_a_verdict_of_today_may_speak_of_runs() -> None:
    verdict = ev.Judged(1, "keep", "c", 1.0, 0.5, '"runs"', evidence="runs", trainings=2)
    written = ev.Record(1, 5.0, verdict)
    assert journal.decode(ev.encode(written)) == written


def test_the_seat_of_an_older_training_was_called_its_slot() -> None:
    line = record(
        '{"type":"RunStarted","n":4,"run":2,"commit":"c","seed":1338,"budget_s":300.0,"slot":1,"why":"again"}'
    )
    assert journal.decode(line).event == ev.TrainingStarted(4, 2, "c", 1338, 300.0, 1, "again")


def test_a_summary_line_with_an_old_name_is_the_trainers_own_and_stays() -> None:
    line = record(
        '{"type":"RunFinished","n":4,"run":2,"outcome":"finished","summary":{"run":7.0,"runs":8.0}}'
    )
    expected = ev.TrainingFinished(4, 2, "finished", summary={"run": 7.0, "runs": 8.0})
    assert journal.decode(line).event == expected


@pytest.mark.parametrize(
    "line",
    [
        b"not json", b"[]", record("1"), record('{"type":"FromTheFuture"}'),
        record('{"type":"RunStarted","n":1}'),
    ],
)  # fmt: skip
def test_a_line_that_neither_version_wrote_is_no_record(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        journal.decode(line)


def test_every_renamed_event_and_field_exists_today() -> None:
    for renamed in older_format.RENAMED.values():
        assert set(renamed.fields.values()) <= set(getattr(ev, renamed.name).__struct_fields__)


def test_an_older_journal_is_continued_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    shutil.copy(RECORDED, path)
    state = RunState()
    opened = Journal.open(path, state.apply)
    (running,) = state.under_way
    following = len(state.experiments) + 1
    for event in (
        ev.EngineStarted(1, "0.2.0", "search"),
        ev.TrainingFinished(running.n, running.training, "finished", value=2.5),
        ev.Judged(running.n, "keep", running.commit, 2.5, 0.5, "better", trainings=1),
        ev.ExperimentStarted(following, running.commit),
        ev.CandidateCommitted(following, "f" * 40, running.commit, "one more"),
        ev.TrainingStarted(following, 1, "f" * 40, 1337, 300.0, seat=1),
    ):
        state.apply(opened.append(event))
    opened.close()
    again = fold(journal.read(path))
    assert msgspec.to_builtins(again) == msgspec.to_builtins(state)
    assert again.seq == STATE["seq"] + 6
    assert again.rows == STATE["rows"] + 1
    assert (again.incumbent, again.best) == (running.n, 2.5)
    assert [(t.n, t.training, t.seat) for t in again.under_way] == [(following, 1, 1)]


def test_the_command_logs_reads_an_older_journal_too(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, "t")
    paths.create()
    shutil.copy(RECORDED, paths.journal)
    stream = io.StringIO()
    logs.show(paths, stream, follow=False, engine_runs=lambda _: False)
    said = stream.getvalue()
    assert "another version" not in said
    assert said.count("training, seed") == RECORDED.read_text().count('"RunStarted"')

"""The journal survives kills, full disks and older versions."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop import events as ev
from loop.errors import JournalError
from loop.records import journal
from loop.records.journal import Journal

CREATED = ev.RunCreated("t", "/repo", "a" * 40, "train.py", ["python", "train.py"])


def write(path: Path, count: int = 3) -> bytes:
    opened = Journal.open(path)
    opened.append(CREATED)
    for n in range(1, count):
        opened.append(ev.ExperimentStarted(n, "a" * 40))
    opened.close()
    return path.read_bytes()


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "j")
    records = journal.read(tmp_path / "j")
    assert [r.seq for r in records] == [1, 2, 3]
    assert records[0].event == CREATED


@given(share=st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_a_torn_tail_costs_only_its_own_line(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("j") / "j"
    whole = write(path)
    cut = round(share * len(whole))
    path.write_bytes(whole[:cut])
    opened = Journal.open(path)
    assert opened.seq == whole[:cut].count(b"\n")
    opened.append(CREATED)
    opened.close()
    assert [r.seq for r in journal.read(path)] == list(range(1, whole[:cut].count(b"\n") + 2))


def test_a_line_that_could_not_be_written_whole_is_taken_back(tmp_path: Path) -> None:
    before = write(tmp_path / "j")
    opened = Journal.open(tmp_path / "j")
    real = os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
        with pytest.raises(OSError, match="space"):
            opened.append(CREATED)
    assert (tmp_path / "j").read_bytes() == before
    assert opened.append(CREATED).seq == 4
    opened.close()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"not json\n", "line 1 is not a journal record"),
        (b'{"type":"record","seq":1,"t":0,"event":{"type":"FromTheFuture"}}\n', "another version"),
        (b'{"type":"record","seq":2,"t":0,"event":{"type":"Logged","n":1}}\n', "records are missing"),
        (ev.encode(ev.Record(1, 0, ev.RunCreated("t", "", "", "", [], format=99))) + b"\n", "format 99"),
    ],
)
def test_a_journal_it_cannot_continue_is_refused_in_one_sentence(
    tmp_path: Path, lines: bytes, message: str
) -> None:
    (tmp_path / "j").write_bytes(lines)
    with pytest.raises(JournalError, match=message):
        Journal.open(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == lines


def test_a_file_of_json_lines_is_read_object_by_object_without_what_is_torn_or_of_another_kind(
    tmp_path: Path,
) -> None:
    deltas = [ev.AgentDelta(1, "text", "one"), ev.AgentDelta(1, "text", "two")]
    lines = [ev.encode(deltas[0]), b"not json", ev.encode(ev.Logged(1)), b"", ev.encode(deltas[1]), b'{"type']
    (tmp_path / "transcript.jsonl").write_bytes(b"\n".join(lines))
    assert list(journal.stream(tmp_path / "transcript.jsonl", ev.AgentDelta)) == deltas
    assert list(journal.stream(tmp_path / "none", ev.AgentDelta)) == []


def test_reading_a_journal_changes_neither_the_file_nor_the_garbage_collector(tmp_path: Path) -> None:
    torn = write(tmp_path / "j") + b'{"type":"rec'
    (tmp_path / "j").write_bytes(torn)
    assert len(journal.read(tmp_path / "j")) == 3
    assert (tmp_path / "j").read_bytes() == torn
    (tmp_path / "bad").write_bytes(b"not json\n")
    with pytest.raises(JournalError):
        journal.read(tmp_path / "bad")
    assert gc.isenabled()
    assert journal.read(tmp_path / "none") == []


def test_only_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    whole = write(tmp_path / "j")
    assert journal.repair(tmp_path / "j") == 0
    for torn in (b"torn", b"x" * 200_000):
        (tmp_path / "j").write_bytes(whole + torn)
        assert journal.repair(tmp_path / "j") == len(torn)
    assert (tmp_path / "j").read_bytes() == whole
    assert journal.repair(tmp_path / "none") == 0

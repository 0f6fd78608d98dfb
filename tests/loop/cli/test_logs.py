"""`logs`: the journal in words."""

from __future__ import annotations

import io
from pathlib import Path

from loop import events as ev
from loop.cli import logs
from loop.paths import RunPaths
from loop.records.journal import Journal
from loop.service import attach


def test_the_log_is_the_journal_in_words(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    journal = Journal.open(paths.journal)
    journal.append(ev.RunCreated("t", str(repository), "c" * 40, "train.py", []))
    journal.append(ev.Paused("enough"))
    journal.close()
    with paths.journal.open("ab") as file:
        file.write(b'{"torn')
    stream = io.StringIO()
    logs.show(paths, stream, True, attach.engine_runs)
    assert [line[9:] for line in stream.getvalue().splitlines()] == [
        "run t from ccccccc, editing train.py",
        "paused: enough",
    ]


def test_following_goes_on_until_the_engine_is_gone(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    journal = Journal.open(paths.journal)
    asked = 0

    def engine_runs(_: RunPaths) -> bool:
        nonlocal asked
        asked += 1
        if asked <= 2:
            journal.append(ev.Paused(f"number {asked}"))
        return asked <= 2

    stream = io.StringIO()
    logs.show(paths, stream, True, engine_runs)
    journal.close()
    assert [line[9:] for line in stream.getvalue().splitlines()] == ["paused: number 1", "paused: number 2"]


def test_a_record_of_another_version_does_not_hide_the_others(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    journal = Journal.open(paths.journal)
    with paths.journal.open("ab") as file:
        file.write(b'{"type":"record","seq":1,"t":0,"event":{"type":"FromTheFuture"}}\n')
    journal.append(ev.Paused("enough"))
    journal.close()
    stream = io.StringIO()
    logs.show(paths, stream, False, attach.engine_runs)
    first, second = stream.getvalue().splitlines()
    assert (first, second[9:]) == ("(a record of another version)", "paused: enough")

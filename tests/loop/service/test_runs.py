"""The list of runs: what engines leave for it, and what it makes of files that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop import events as ev
from loop.paths import RunPaths
from loop.service import runs
from loop.service.attach import lock
from loop.state import RunState, fold


@pytest.fixture(autouse=True)
def own_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def state_of(root: Path, tag: str, *events: ev.AnyEvent) -> RunState:
    created = ev.RunCreated(tag, str(root), "c0", "train.py", ["python"])
    started = ev.EngineStarted(1, "0", "search")
    return fold(ev.Record(i, float(i), event) for i, event in enumerate((created, started, *events), 1))


def leave(root: Path, tag: str, *events: ev.AnyEvent, at: float = 100.0) -> RunPaths:
    """A run whose engine has left its overview at second `at`."""
    paths = RunPaths(root, tag)
    paths.create()
    paths.journal.touch()
    runs.Overviews(paths, state_of(root, tag, *events)).take(ev.Record(1, at, ev.Resumed()))
    return paths


def test_runs_that_want_something_come_first_then_the_newest(tmp_path: Path) -> None:
    leave(tmp_path / "a", "old", at=1.0)
    leave(tmp_path / "b", "new", at=3.0)
    waits = leave(tmp_path / "a", "waits", ev.Paused("limit reached", "engine"), at=2.0)
    with lock(waits):
        found = runs.known()
        assert [run.tag for run in found] == ["waits", "new", "old"]
        assert [run.running for run in found] == [True, False, False]
        assert found[0].attention == "paused: limit reached"
        assert found[1].root == str(tmp_path / "b")


def test_what_a_run_wants() -> None:
    candidate = (ev.ExperimentStarted(1, "c0"), ev.CandidateCommitted(1, "c1", "c0", "wider"))
    waiting = state_of(Path("/r"), "t", *candidate, ev.ApprovalRequested(1))
    assert runs.attention(waiting) == "#1 waits for your approval"
    assert runs.attention(state_of(Path("/r"), "t", ev.PermissionAsked(1, "1", "rm"))) != ""
    assert runs.attention(state_of(Path("/r"), "t")) == ""
    stopped = state_of(Path("/r"), "t", ev.Paused("x"), ev.EngineStopped("by hand"))
    assert runs.attention(stopped) == ""


def test_live_events_write_nothing(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, "t")
    paths.create()
    runs.Overviews(paths, state_of(tmp_path, "t")).take(ev.Record(0, 1.0, ev.Preparing("41%")))
    assert not (paths.folder / runs.FILE).exists()


@pytest.mark.parametrize("kind", ["pipe", "garbage", "large", "link", "folder"])
def test_a_file_that_is_no_overview_is_left_out(tmp_path: Path, kind: str) -> None:
    good, bad = leave(tmp_path, "good"), leave(tmp_path, "bad")
    file = bad.folder / runs.FILE
    file.unlink()
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "garbage":
            file.write_bytes(b'{"root": 3')
        case "large":
            with file.open("wb") as sparse:
                sparse.truncate(2**40)
        case "link":
            file.symlink_to(good.folder / runs.FILE)
        case "folder":
            file.mkdir()
    assert [run.tag for run in runs.known()] == ["good"]


def test_a_repository_that_is_gone_is_left_out(tmp_path: Path) -> None:
    leave(tmp_path / "a", "t").root.rename(tmp_path / "moved")
    assert runs.known() == []


def test_an_overview_is_nobody_elses_business(tmp_path: Path) -> None:
    paths = leave(tmp_path, "t")
    assert (paths.folder / runs.FILE).stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in paths.folder.iterdir()) == ["journal.jsonl", runs.FILE]

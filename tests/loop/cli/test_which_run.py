"""Which run a command is about."""

from __future__ import annotations

import argparse
import os
from datetime import date
from pathlib import Path

import pytest

from loop import events as ev
from loop.cli import which_run
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.journal import Journal
from loop.records.repository import Repository
from loop.service import attach
from tests.conftest import git


@pytest.fixture
def here(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(repository)
    return repository


def kept(root: Path, *known: str) -> None:
    """Runs of these tags, the last one the newest."""
    for age, tag in enumerate(known):
        paths = RunPaths(root, tag)
        paths.create()
        paths.journal.touch()
        os.utime(paths.journal, (age, age))


def tagged(tag: str | None) -> argparse.Namespace:
    return argparse.Namespace(tag=tag)


def test_the_newest_run_is_meant_unless_a_tag_is_given(here: Path) -> None:
    with pytest.raises(UsageError, match="no run here yet"):
        which_run.existing(tagged(None))
    kept(here, "one", "two")
    assert which_run.existing(tagged(None)).tag == "two"
    assert which_run.existing(tagged("one")).folder == here / ".autoresearch/one"
    with pytest.raises(UsageError, match="no run three here; there is one, two"):
        which_run.existing(tagged("three"))


def test_a_command_to_an_engine_needs_one(here: Path) -> None:
    kept(here, "one", "two")
    with pytest.raises(UsageError, match="no engine runs for two: start one with `autoresearch-tui --tag"):
        which_run.with_engine(tagged(None))
    with attach.lock(RunPaths(here, "two")):
        assert which_run.with_engine(tagged(None)).tag == "two"


def test_the_newest_run_under_way_is_found(here: Path) -> None:
    kept(here, "one", "two", "three")
    repository = Repository.discover(here)
    assert which_run.under_way(repository) is None
    with attach.lock(RunPaths(here, "one")), attach.lock(RunPaths(here, "two")):
        found = which_run.under_way(repository)
    assert found is not None
    assert found.tag == "two"
    repository.close()


def record(root: Path, tag: str, *events: ev.DurableEvent) -> None:
    opened = Journal.open(RunPaths(root, tag).journal)
    for event in events:
        opened.append(event)
    opened.close()


def test_a_run_that_is_not_over_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After kill -9, a power cut, a stop by hand: the same command as before is enough."""
    repository = Repository.discover(here)
    new = f"{date.today():%b%d}".lower()
    assert which_run.to_run(None, repository).tag == new
    created = ev.RunCreated("old", str(here), repository.head(), "train.py", ["x"])
    record(here, "old", created)
    assert which_run.to_run(None, repository).tag == new  # imported: it never had an engine
    assert capsys.readouterr().err == ""
    record(here, "old", ev.EngineStarted(1, "0", "claude"))
    assert which_run.to_run(None, repository).tag == "old"
    assert "run old goes on; --tag NAME begins another" in capsys.readouterr().err
    assert which_run.to_run("mine", repository).tag == "mine"
    for reason, goes_on in (
        ("stopped by hand", True),
        ("stopped by a signal", True),
        ("10 crashes in a row", True),
        ("limit reached: 100 experiments", False),
        ("goal reached: val_bpb 0.9 is below 1", False),
        ("the baseline gave no val_bpb: exit code 1", False),
    ):
        record(here, "old", ev.EngineStarted(1, "0", "claude"), ev.EngineStopped(reason))
        assert (which_run.to_run(None, repository).tag == "old") == goes_on, reason
    repository.close()


def test_with_other_code_a_new_run_begins_and_says_how_to_go_on_with_the_last(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Repository.discover(here)
    created = ev.RunCreated("old", str(here), repository.head(), "train.py", ["x"])
    record(here, "old", created, ev.EngineStarted(1, "0", "claude"))
    git(here, "commit", "--allow-empty", "-m", "other code")
    assert which_run.to_run(None, repository).tag == f"{date.today():%b%d}".lower()
    said = "HEAD has moved since run old began, so a new run begins; --tag old goes on with it"
    assert said in capsys.readouterr().err
    repository.close()


def test_a_new_run_is_named_after_the_date_and_after_no_branch_that_is_there(here: Path) -> None:
    repository = Repository.discover(here)
    today = f"{date.today():%b%d}".lower()
    assert which_run.to_start(None, repository).tag == today
    git(here, "branch", f"autoresearch/{today}")
    kept(here, f"{today}-2")
    assert which_run.to_start(None, repository).tag == f"{today}-3"
    assert which_run.to_start("mine", repository).tag == "mine"
    with pytest.raises(UsageError, match="must be letters"):
        which_run.to_start("a/b", repository)
    repository.close()

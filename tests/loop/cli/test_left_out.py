"""What of the user's checkout is not trained is said where a run begins."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from loop.cli import cockpit, doctor
from loop.cli.__main__ import main
from loop.cli.left_out import left_out
from loop.config import Settings
from loop.records.repository import Repository
from tests.conftest import TRAINER, git

CHANGED = "train.py has changes that are not committed: what is committed is trained"
SUBMODULE = "submodule sub is not part of a candidate's files"


def found(root: Path) -> list[str]:
    repository = Repository.discover(root)
    try:
        return list(left_out(repository, Settings(editable=["train.py"])))
    finally:
        repository.close()


def add_submodules(root: Path, *paths: str) -> None:
    head = git(root, "rev-parse", "HEAD")
    for path in paths:
        git(root, "update-index", "--add", "--cacheinfo", f"160000,{head},{path}")
    git(root, "commit", "-qm", "submodules")


def test_a_checkout_as_it_was_committed_leaves_nothing_out(repository: Path) -> None:
    assert found(repository) == []
    (repository / "train.py").write_bytes(TRAINER.replace("\n", "\r\n").encode())  # as core.autocrlf does
    (repository / "notes.txt").write_text("no trainer\n")
    assert found(repository) == []


def test_changes_of_the_editable_file_are_said_of(repository: Path) -> None:
    (repository / "train.py").write_text(TRAINER + "X = 1.0\n")
    assert found(repository) == [CHANGED]
    git(repository, "commit", "-qam", "mine")
    assert found(repository) == []
    (repository / "train.py").unlink()
    assert found(repository) == [CHANGED]


def test_submodules_are_named_the_first_of_many(repository: Path) -> None:
    add_submodules(repository, "sub")
    assert found(repository) == [SUBMODULE]
    add_submodules(repository, "lib/b", "lib/c", "lib/d", "lib/e")
    assert found(repository) == [
        "submodules lib/b, lib/c, lib/d and 2 more are not part of a candidate's files"
    ]


def test_a_run_says_it_where_it_begins_and_not_where_it_goes_on(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    add_submodules(repository, "sub")
    (repository / "train.py").write_text("print('not this')\n")
    words = ["run", "--headless", "--tag", "t", "--agent", "search", "--baseline-runs", "1"]
    assert main([*words, "--budget", "0.1", "--max-experiments", "1"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"autoresearch-tui: {CHANGED}", f"autoresearch-tui: {SUBMODULE}"]
    assert "#1 keep 6.000000" in said.out
    assert main([*words, "--budget", "0.1", "--max-experiments", "1"]) == 0
    assert capsys.readouterr().err == ""


def test_it_is_said_before_the_cockpit_covers_the_terminal(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "train.py").write_text("print('not this')\n")
    waits: list[float] = []
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(cockpit, "_show", lambda *_, **__: len(waits))
    assert main(["--tag", "t"]) == 1
    assert capsys.readouterr().err == f"autoresearch-tui: {CHANGED}\n"


def test_the_doctor_says_it_too(repository: Path) -> None:
    add_submodules(repository, "sub")
    (repository / "train.py").write_text("print('not this')\n")
    opened = Repository.discover(repository)
    report = list(doctor._repository(opened, Settings(editable=["train.py"]), {}))
    opened.close()
    assert [f.text for f in report if f.what == "left out"] == [CHANGED, SUBMODULE]

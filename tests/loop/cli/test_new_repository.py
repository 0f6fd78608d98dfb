"""`init`: a new research repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop import config
from loop.cli import __main__ as cli
from loop.cli import new_repository
from loop.errors import UsageError
from loop.records.repository import Repository
from tests.conftest import git


def test_a_new_repository_is_committed_and_ready_for_research(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new/research"
    assert cli.main(["init", str(folder)]) == 0
    assert "is ready" in capsys.readouterr().out
    assert git(folder, "status", "--porcelain") == ""
    committed = git(folder, "ls-files").splitlines()
    assert {"program.md", "nanogpt/train.py", "nanogpt/prepare.py", "nanogpt/evaluation.py"} <= set(committed)
    repository = Repository.discover(folder)
    found = config.load(repository, repository.head(), {}, {})
    assert (found.path, found.prepare_command) == ("nanogpt/train.py", ["{python}", "nanogpt/prepare.py"])
    repository.close()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError, match="not empty: name a new folder"):
        new_repository.create(tmp_path)
    with pytest.raises(UsageError, match="not empty"):
        new_repository.create(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_relative_folder_is_committed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = new_repository.create(Path("below/research"))
    folder = tmp_path / "below/research"
    assert git(folder, "ls-files").splitlines() == sorted(paths)
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "log", "--format=%s") == "Start of research"

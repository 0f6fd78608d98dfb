"""`autoresearch-tui selftest` prints a line for each check, and ends with 1 if one fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.cli import new_repository
from loop.cli.__main__ import main
from tests.conftest import git

SCRIPT = """\
print("ok       0.1 s  device: here", flush=True)
print("fail     2.0 s  step: OutOfMemoryError", flush=True)
raise SystemExit(1)
"""


@pytest.fixture
def here(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(repository)
    return repository


def test_each_check_is_a_line_and_a_failure_the_exit_code(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "selftest.py").write_text(SCRIPT)
    git(here, "add", ".")
    git(here, "commit", "-qm", "selftest")
    assert main(["selftest", "--trust"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == ["ok       0.1 s  device: here", "fail     2.0 s  step: OutOfMemoryError"]
    assert last.endswith(": step: OutOfMemoryError")


def test_a_trainer_that_no_python_starts_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "autoresearch.toml").write_text('train_command = ["./train.sh"]\neditable = ["train.py"]\n')
    assert main(["selftest", "--trust"]) == 2
    assert "started by ./train.sh, not by Python" in capsys.readouterr().err


@pytest.mark.slow
def test_our_own_trainer_passes_behind_the_fence(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new_repository.create(tmp_path / "ours")
    monkeypatch.chdir(tmp_path / "ours")
    assert main(["selftest"]) == 0, capsys.readouterr()
    names = [line.split("s  ")[1].split(":")[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert {"device", "attention sdpa", "step", "evaluation"} <= set(names)

"""`finish`: a run's result is taken home as a branch, texts and a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.cli import finish
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.journal import read
from loop.records.repository import Repository
from loop.state import Experiment, RunState, fold
from tests.conftest import git
from tests.loop.cli.test_model import call, night


@pytest.fixture
async def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of which experiments 1 and 2 were kept."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return await night(tmp_path / "repo")


async def test_the_keeps_become_commits_with_their_evidence(root: Path) -> None:
    head, status = git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain")
    found = call(root, "finish", "--out", "home")
    assert found.returncode == 0, found.stderr
    tag = next(path.name for path in (root / ".autoresearch").iterdir() if path.is_dir())
    assert found.stdout.splitlines()[0].startswith(f"branch {tag}-keeps: 1 commit on {head[:7]}")
    log = git(root, "log", "--format=%B", f"{head.strip()}..{tag}-keeps")
    assert log.startswith("X to 1.5\n")
    assert f"Experiment 2 of run {tag}" in log
    assert "1.5" in git(root, "show", f"{tag}-keeps:train.py")
    assert git(root, "rev-parse", "HEAD") == head
    assert git(root, "status", "--porcelain").replace("?? home/\n", "") == status
    git(root, "fsck", "--strict")
    text = (root / "home/pull-request.md").read_text()
    assert "| 2 | X to 1.5 |" in text
    assert "1 change" in text.splitlines()[0]
    assert (root / "home/model/model.pt").read_text() == "X = 1.5"
    git(root, "apply", "--check", "home/changes.patch")


async def test_nothing_is_overwritten(root: Path) -> None:
    assert call(root, "finish").returncode == 0
    again = call(root, "finish")
    assert again.returncode == 2
    assert "is there already" in again.stderr
    other = call(root, "finish", "--branch", "mine")
    assert other.returncode == 2
    assert "not empty: name a new folder with --out" in other.stderr
    assert call(root, "finish", "--branch", "mine", "--out", "second").returncode == 0


@pytest.mark.parametrize("name", ["..", "a..b", "-x", "x.lock", "a b", "x/", "\x1b[31m"])
async def test_a_name_that_no_branch_can_have(root: Path, name: str) -> None:
    found = call(root, "finish", f"--branch={name}", "--out", "home")
    assert found.returncode == 2
    assert "cannot be a branch's name" in found.stderr
    assert not (root / "home").exists()


async def test_without_a_keep_there_is_nothing_to_take_home(tmp_path: Path) -> None:
    root = await night(tmp_path / "repo", count=1)
    found = call(root, "finish")
    assert found.returncode == 2
    assert "has kept nothing beyond the baseline" in found.stderr


def test_an_agents_words_stay_in_their_cell() -> None:
    e = Experiment(2, "c1", "keep", "c2", description="a | b\n| c |", value=1.0)
    state = RunState(tag="t", base="c1", baseline=1.1, experiments=[Experiment(1, "", "keep", "c1"), e])
    row = next(line for line in finish.pull_request(state, [e], "b").splitlines() if line.startswith("| 2"))
    assert row == "| 2 | a \\| b \\| c \\| | 1.000000 |  |  |"


def test_a_long_description_is_cut_in_the_first_line_only() -> None:
    e = Experiment(2, "c1", "keep", "c2", description="wide " * 40, hypothesis="more room")
    lines = finish.message(RunState(tag="t"), e).splitlines()
    assert len(lines[0]) == finish.SUBJECT
    assert lines[2] == ("wide " * 40).strip()
    assert lines[4] == "more room"


async def test_a_commit_that_is_gone_is_named(root: Path) -> None:
    tag = next(path.name for path in (root / ".autoresearch").iterdir() if path.is_dir())
    paths = RunPaths(root, tag)
    state = fold(read(paths.journal))
    state.experiments[1].commit = "0" * 40
    with pytest.raises(UsageError, match="not in this repository any more"):
        finish.finish(paths, Repository.discover(root), state, root / "home", None)

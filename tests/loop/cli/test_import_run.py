"""`import`: a run of another tool is looked at, compared and taken home like one of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop.cli import import_run
from loop.cli.__main__ import main
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records import journal
from loop.records.repository import Repository
from loop.service import runs
from loop.state import fold
from tests.conftest import git, make_repository
from tests.loop.records.test_imported import Theirs


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Theirs:
    made = Theirs(tmp_path / "theirs")
    git(made.root, "switch", "-qc", "exp/mar8")
    made.try_out(1, "keep", 0.99)
    made.try_out(2, "discard", 1.01)
    made.try_out(3, "keep", 0.98)
    (tmp_path / "results.tsv").write_text("\n".join(made.lines) + "\n")
    monkeypatch.chdir(made.root)
    return made


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["import", *words]) == 2
    found = capsys.readouterr()
    assert (found.out, found.err.count("\n")) == ("", 1)
    return found.err.strip()


def test_it_becomes_a_finished_run_and_the_checkout_stays_as_it_was(
    theirs: Theirs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [git(theirs.root, *words) for words in (("status", "--porcelain"), ("rev-parse", "HEAD"))]
    assert main(["import", "../results.tsv", "--branch", "exp/mar8"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "run mar8: 4 experiments, 3 kept, 0 crashed, best val_bpb 0.980000 (lower is better); git has"
    )
    after = [git(theirs.root, *words) for words in (("status", "--porcelain"), ("rev-parse", "HEAD"))]
    assert before == after
    git(theirs.root, "fsck", "--strict")
    state = fold(journal.read(RunPaths(theirs.root, "mar8").journal))
    assert git(theirs.root, "rev-parse", "autoresearch/mar8") == state.incumbent_commit
    assert git(theirs.root, "rev-parse", "refs/autoresearch/mar8/0003") == state.experiments[2].commit
    discarded = state.experiments[2].commit
    assert "status: discard" in git(theirs.root, "notes", "--ref=autoresearch", "show", discarded)
    assert "seed" not in git(theirs.root, "notes", "--ref=autoresearch", "show", "HEAD")
    assert [(run.tag, run.kept) for run in runs.known() if run.root == str(theirs.root)] == [("mar8", 3)]


def test_what_was_not_understood_is_said(
    theirs: Theirs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*theirs.lines, "abcdef2\t1.1\t44.0\ttentative\ttied", "", "=== notes ===", "the end"]
    (tmp_path / "results.tsv").write_text("\n".join(rows) + "\n")
    assert main(["import", "../results.tsv", "--branch", "exp/mar8"]) == 0
    assert capsys.readouterr().out.splitlines()[1:3] == [
        f"2 lines left out that are no experiments, the first of them line {len(rows) - 1}",
        "1 row discarded whose status is: tentative",
    ]


@pytest.mark.parametrize("commit", ["abcdef1", "baseline"])
def test_a_last_keep_that_git_has_not_got_leaves_the_branch_at_the_keep_before(
    theirs: Theirs, tmp_path: Path, capsys: pytest.CaptureFixture[str], commit: str
) -> None:
    rows = [*theirs.lines, f"{commit}\t0.97\t44.0\tkeep\tlost", "abcdef2\t1.1\t44.0\tdiscard\tlost too"]
    (tmp_path / "results.tsv").write_text("\n".join(rows) + "\n")
    assert main(["import", "../results.tsv", "--branch", "exp/mar8"]) == 0
    before = git(theirs.root, "rev-parse", "exp/mar8")
    assert git(theirs.root, "rev-parse", "autoresearch/mar8") == before
    lost = fold(journal.read(RunPaths(theirs.root, "mar8").journal)).experiments[4:]
    assert [(e.phase, e.commit, e.parent) for e in lost] == [
        ("keep", "abcdef1" if commit == "abcdef1" else "", before),
        ("discard", "abcdef2", before),
    ]
    assert [main([word]) for word in ("status", "report", "finish")] == [0, 0, 2]
    assert "of experiment 5 is not in this repository any more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none.tsv",), "none.tsv is not there"),
        (("train.py",), "train.py, line 1: columns must have tabs between them"),
        (("../results.tsv", "--branch", "mar9"), "there is no branch mar9 here: fetch it"),
        (("../results.tsv", "--tag", "a b"), "--tag 'a b' must be letters"),
    ],
)
def test_what_cannot_be_imported(
    theirs: Theirs, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, *words)
    assert not (theirs.root / ".autoresearch").exists()


def test_a_second_import_gets_another_name_or_is_refused(
    theirs: Theirs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "../results.tsv", "--branch", "exp/mar8"]) == 0
    assert main(["import", "../results.tsv", "--branch", "exp/mar8"]) == 0
    assert "run mar8-imported: 4 experiments" in capsys.readouterr().out
    assert "run or branch mar8 is there already" in refused(capsys, "../results.tsv", "--tag", "mar8")


def test_another_repository_has_none_of_the_commits(
    theirs: Theirs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_repository(tmp_path / "other", "print('something else')\n"))
    assert "git has none of the commits in ../results.tsv" in refused(capsys, "../results.tsv")


def test_a_branch_that_cannot_be_a_tag(theirs: Theirs, tmp_path: Path) -> None:
    git(theirs.root, "branch", "exp/mar.8")
    repository = Repository.discover(theirs.root)
    (line, _) = import_run.import_run(repository, tmp_path / "results.tsv", "exp/mar.8", None)
    assert not line.startswith("run mar.8")
    with pytest.raises(UsageError):
        import_run.import_run(repository, tmp_path / "results.tsv", "gone", None)


@pytest.mark.slow
def test_its_keeps_can_be_taken_home(theirs: Theirs) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    for words in (("import", "../results.tsv", "--branch", "exp/mar8"), ("finish",), ("status",)):
        command = [sys.executable, "-m", "loop.cli", *words]
        found = subprocess.run(command, cwd=theirs.root, env=environ, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
    assert git(theirs.root, "log", "--format=%s", "exp/mar8~2..mar8-keeps").splitlines() == ["idea", "idea"]

"""The command line: what the user can mend is one sentence on stderr and exit code 2."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loop import __version__
from loop import events as ev
from loop.cli import __main__ as entry
from loop.cli.__main__ import main
from loop.paths import RunPaths
from loop.records.journal import Journal
from loop.service import attach
from tests.conftest import git


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail in order; returns what it says."""
    try:
        code = main(list(words))
    except SystemExit as error:
        code = int(str(error.code))
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("autoresearch-tui")
    return err


@pytest.fixture
def here(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(repository)
    return repository


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        (["dance"], "invalid choice: 'dance'"),
        (["run", "--budget", "soon"], "invalid float value: 'soon'"),
        (["run", "--headless", "--budget", "0"], "--budget must be more than 0 seconds"),
        (["run", "--headless", "--budget", "-4"], "--budget must be more than 0 seconds"),
        (["run", "--headless", "--budget", "nan"], "--budget must be more than 0 seconds"),
        (["noise", "--budget", "0"], "--budget must be more than 0 seconds"),
        (["run", "--headless", "--max-experiments", "0"], "--max-experiments must be more than 0"),
        (["run", "--headless", "--tag", "a/b"], "must be letters, digits"),
        (["run", "--headless", "--agent", "nobody"], "no agent 'nobody'"),
        (["status"], "no run here yet"),
        (["status", "--tag", "never"], "no run never here"),
        (["stop"], "no run here yet"),
        (["prepare"], "nothing to prepare"),
        ([], "no terminal here: use `autoresearch-tui run --headless`"),
    ],
)
def test_wrong_words(here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert message in fails(capsys, *words)


def test_no_repository_no_commit_no_train_py(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "is not in a git repository: run `git init`" in fails(capsys, "run", "--headless")
    git(tmp_path, "init", "-q")
    assert "has no commit yet" in fails(capsys, "run", "--headless")
    (tmp_path / "x").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x")
    assert "has no committed train.py" in fails(capsys, "run", "--headless")
    assert git(tmp_path, "status", "--porcelain") == ""


def test_a_branch_in_use_is_not_moved(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(here, "branch", "autoresearch/t")
    assert "exists but its journal does not" in fails(capsys, "run", "--headless", "--tag", "t")
    git(here, "checkout", "-q", "autoresearch/t")
    message = fails(capsys, "run", "--headless", "--tag", "t")
    assert f"branch autoresearch/t is checked out in {here}" in message


@pytest.mark.parametrize("command", ["attach", "pause", "resume", "stop"])
def test_no_engine_to_talk_to(here: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    paths = RunPaths(here, "t")
    paths.create()
    paths.journal.touch()
    assert "no engine runs for t" in fails(capsys, command)


@pytest.mark.parametrize("command", ["status", "stop", "pause"])
def test_an_engine_of_another_version(here: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    paths = RunPaths(here, "t")
    with attach.lock(paths):
        paths.journal.touch()
        paths.info.write_text('{"pid": 1234, "version": "99.0", "socket": "/nowhere"}')
        message = fails(capsys, command, "--tag", "t")
        assert f"the engine (pid 1234) is version 99.0, this is {__version__}" in message
        assert "(pid 1234)" in fails(capsys, "run", "--headless", "--tag", "t")


def test_a_journal_of_a_newer_version_is_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = RunPaths(here, "t")
    paths.create()
    line = '{"type":"record","seq":1,"t":0,"event":{"type":"RunCreated","tag":"t","repository":"","base":"",'
    line += '"editable":"train.py","train_command":[],"format":99}}\n'
    paths.journal.write_text(line)
    for command in ("status", "run"):
        assert "has format 99: update autoresearch-tui" in fails(capsys, command, "--tag", "t")
    assert paths.journal.read_text() == line


def test_a_read_only_folder_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(here / ".autoresearch", ignore_errors=True)
    (here / ".autoresearch").write_text("")
    assert "cannot write" in fails(capsys, "run", "--headless", "--tag", "t")


@pytest.mark.parametrize("words", [["logs"], ["status", "--json"]])
def test_where_nobody_reads_on_it_ends_without_a_word(here: Path, words: list[str]) -> None:
    """As in `logs | head -1`. Logs writes each line at once, status when it ends."""
    journal = Journal.open(RunPaths(here, "t").journal)
    journal.append(ev.RunCreated("t", str(here), "c" * 40, "train.py", []))
    journal.close()
    reader, writer = os.pipe()
    os.close(reader)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    environ.pop("PYTHONUNBUFFERED", None)
    ended = subprocess.run(
        [sys.executable, "-m", "loop.cli", *words], stdout=writer, stderr=subprocess.PIPE, env=environ
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_another_broken_pipe_is_not_hushed_up(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def break_off(_: argparse.Namespace) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(entry, "parse", lambda _: argparse.Namespace(action=break_off))
    with pytest.raises(BrokenPipeError):
        main([])

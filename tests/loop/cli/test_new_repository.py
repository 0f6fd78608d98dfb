"""A new research repository, the log from another shell, and the warning about log-out."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from loop import config
from loop import events as ev
from loop.cli import __main__ as cli
from loop.cli import logs, new_repository
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.journal import Journal
from loop.records.repository import Repository
from loop.service import attach, launch
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


def test_the_log_is_the_journal_in_words(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    journal = Journal.open(paths.journal)
    journal.append(ev.RunCreated("t", str(repository), "c" * 40, "train.py", []))
    journal.append(ev.Paused("enough"))
    journal.close()
    with paths.journal.open("ab") as file:
        file.write(b'{"torn')
    stream = io.StringIO()
    logs.show(paths, stream, True, attach.alive)
    assert [line[9:] for line in stream.getvalue().splitlines()] == [
        "run t from ccccccc, editing train.py",
        "paused: enough",
    ]


def test_following_goes_on_until_the_engine_is_gone(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    journal = Journal.open(paths.journal)
    asked = 0

    def alive(_: RunPaths) -> bool:
        nonlocal asked
        asked += 1
        if asked <= 2:
            journal.append(ev.Paused(f"number {asked}"))
        return asked <= 2

    stream = io.StringIO()
    logs.show(paths, stream, True, alive)
    journal.close()
    assert [line[9:] for line in stream.getvalue().splitlines()] == ["paused: number 1", "paused: number 2"]


SCOPED = {"USER": "me", "INVOCATION_ID": "1"}
"""In a unit of its own."""


@pytest.mark.parametrize(
    ("files", "environ", "warned"),
    [
        ({}, {"USER": "me"}, False),
        ({"etc/logind.conf": "[Login]\n#KillUserProcesses=yes\n"}, {"USER": "me"}, False),
        ({"etc/logind.conf": "[Login]\nKillUserProcesses = yes\n"}, {"USER": "me"}, True),
        ({"usr/logind.conf": "KillUserProcesses=yes\n"}, {"USER": "me"}, True),
        ({"usr/logind.conf": "KillUserProcesses=yes", "etc/logind.conf": "KillUserProcesses=no"}, {}, False),
        ({"etc/logind.conf": "", "etc/logind.conf.d/a.conf": "KillUserProcesses=1"}, {"USER": "me"}, True),
        ({"etc/logind.conf": "KillUserProcesses=yes"}, {"USER": "root"}, False),
        ({"etc/logind.conf": "KillUserProcesses=yes"}, SCOPED, True),
        ({"etc/logind.conf": "KillUserProcesses=yes", "linger/me": ""}, {"USER": "me"}, True),
        ({"etc/logind.conf": "KillUserProcesses=yes", "linger/me": ""}, SCOPED, False),
    ],
)  # fmt: skip
def test_a_system_that_kills_at_log_out_is_warned_of(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], warned: bool
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    folders = [str(tmp_path / "usr"), str(tmp_path / "etc")]
    found = launch.warning(environ, folders, tmp_path / "linger")
    assert (found is not None) == warned
    assert found is None or "loginctl enable-linger" in found

"""Whoever agrees to a command agrees to the files that it runs, as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop.records import named_files
from loop.records.repository import Repository
from tests.conftest import git


def hashes(root: Path, *command: str) -> list[str]:
    repository = Repository.discover(root)
    try:
        return named_files.hashes(repository, repository.head(), command, "train.py")
    finally:
        repository.close()


@pytest.fixture
def root(repository: Path) -> Path:
    for name in ("get.sh", "tool/run.py", "tool/beside.py", "tool/table.bin", "other/x.py", "pyproject.toml"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(name)
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "files")
    return repository


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (["sh", "get.sh"], "get.sh"),
        (["sh", "-c", "true;sh ./get.sh>x"], "get.sh"),
        (["{python}", "tool/run.py"], "tool/run.py"),
        (["{python}", "tool/run.py"], "tool/beside.py"),
        (["{python}", "tool/run.py"], "tool/new.py"),
        (["{python}", "tool/run.py"], "tool/new.cpython-312.so"),
        (["{python}", "tool/run.py"], "tool/table.bin"),
        (["sh", "tool/run.py"], "tool/Makefile"),
        (["{python}", "-m", "tool.run"], "tool/run.py"),
        (["uv", "run", "prepare"], "pyproject.toml"),
        (["uv", "run", "prepare"], "uv.lock"),
        (["sh", "-c", "make data"], "Makefile"),
        (["sh", "-c", ". $PWD/get.sh"], "get.sh"),
    ],
)
def test_a_file_that_a_command_runs_changes_the_hash(root: Path, command: list[str], changed: str) -> None:
    before = hashes(root, *command)
    (root / changed).write_text("evil")
    edited = hashes(root, *command)
    git(root, "add", ".")
    git(root, "commit", "-qm", "the same, committed")
    committed = hashes(root, *command)
    assert len(committed) == 1
    assert before != committed
    assert set(edited) == {*before, *committed}, "whoever agreed to the edit has agreed to its commit"


@pytest.mark.parametrize("changed", ["other/x.py", "train.py", "get.sh"])
def test_other_files_do_not(root: Path, changed: str) -> None:
    """What agents edit runs behind the fence."""
    command = ["{python}", "tool/run.py", "train.py", "/etc/passwd", "../x", ""]
    before = hashes(root, *command)
    (root / changed).write_text("something else")
    git(root, "commit", "-qam", "changed")
    assert hashes(root, *command) == before != []


@pytest.mark.parametrize("name", ["train.bin", "meta.json", "noise", ".run.py.swp", "run.py~", "#run.py#"])
def test_data_and_drafts_beside_a_script_do_not(root: Path, name: str) -> None:
    """A script such as nanoGPT's data/x/prepare.py writes its data beside itself."""
    before = hashes(root, "{python}", "tool/run.py")
    (root / "tool" / name).write_text("data")
    (root / "tool/.#run.py").symlink_to("somebody@somewhere")
    assert hashes(root, "{python}", "tool/run.py") == before


def test_a_new_program_beside_a_script_does(root: Path) -> None:
    before = hashes(root, "{python}", "tool/run.py")
    (root / "tool/circle").symlink_to("circle")
    (root / "tool/fetch").write_text("curl evil")
    (root / "tool/fetch").chmod(0o755)
    assert len(hashes(root, "{python}", "tool/run.py")) == 2 > len(before)


def test_a_command_of_the_system_has_no_files_here(root: Path) -> None:
    assert hashes(root, "sh", "-c", "echo hello") == hashes(root) == []


def test_odd_files_in_the_place_of_one_are_not_waited_for(root: Path) -> None:
    (root / "get.sh").unlink()
    os.mkfifo(root / "get.sh")
    (root / "tool/beside.py").unlink()
    (root / "tool/beside.py").symlink_to("/dev/zero")
    (root / "tool/circle.py").symlink_to("circle.py")
    assert len(hashes(root, "sh", "get.sh")) == len(hashes(root, "sh", "tool/run.py")) == 2

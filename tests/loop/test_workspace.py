"""A slot is exactly the candidate's tree, whatever the last trainer did to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from loop import workspace
from loop.repository import Repository
from tests.conftest import git


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


@pytest.fixture
def slot(repository: Path, tmp_path: Path) -> tuple[Repository, str, Path]:
    (repository / "data").mkdir()
    (repository / "data/tokens.bin").write_bytes(b"\0\1\2")
    (repository / "run.sh").write_text("#!/bin/sh\n")
    (repository / "run.sh").chmod(0o755)
    (repository / "link.py").symlink_to("train.py")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "more")
    found = Repository.discover(repository)
    workspace.export(found, found.head(), tmp_path / "slot")
    return found, found.head(), tmp_path / "slot"


def test_it_is_what_git_would_check_out(slot: tuple[Repository, str, Path], tmp_path: Path) -> None:
    repository, commit, folder = slot
    git(repository.root, "worktree", "add", "-q", "--detach", str(tmp_path / "wt"), commit)
    (tmp_path / "wt/.git").unlink()
    assert {k: v[1] for k, v in tree(folder).items()} == {k: v[1] for k, v in tree(tmp_path / "wt").items()}
    assert os.access(folder / "run.sh", os.X_OK)
    assert (folder / "link.py").is_symlink()


def swap_for_link(folder: Path) -> None:
    (folder / "notes.txt").rename(folder / "other")
    (folder / "notes.txt").symlink_to("other")


def swap_folder_for_link(folder: Path) -> None:
    (folder / "data").rename(folder / "elsewhere")
    (folder / "data").symlink_to("elsewhere")


def hard_link(folder: Path) -> None:
    os.link(folder / "notes.txt", folder.parent / "outside")


DAMAGE: list[Callable[[Path], object]] = [
    lambda f: (f / "notes.txt").write_text("yours\n"),
    lambda f: (f / "notes.txt").unlink(),
    lambda f: (f / "run.sh").chmod(0o644),
    lambda f: (f / "checkpoint.pt").write_bytes(b"x" * 1000),
    lambda f: (f / "data/cache").mkdir() or (f / "data/cache/x").touch(),
    lambda f: (f / "data").chmod(0o500),
    lambda f: (f / "link.py").unlink() or (f / "link.py").symlink_to("/etc/passwd"),
    lambda f: (f / "train.py").unlink() or (f / "train.py").mkdir() or (f / "train.py/x").touch(),
    swap_for_link,
    swap_folder_for_link,
    hard_link,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_whatever_a_trainer_did_is_undone(
    slot: tuple[Repository, str, Path], damage: Callable[[Path], object]
) -> None:
    repository, commit, folder = slot
    before = tree(folder)
    damage(folder)
    workspace.export(repository, commit, folder)
    assert tree(folder) == before
    assert (folder / "notes.txt").lstat().st_nlink == 1


def test_only_what_differs_is_written(slot: tuple[Repository, str, Path]) -> None:
    repository, commit, folder = slot
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    candidate = repository.commit(commit, "train.py", "X = 1\n", "m")
    workspace.export(repository, candidate, folder)
    changed = {path.name for path, mtime in before.items() if path.lstat().st_mtime_ns != mtime}
    assert changed == {"train.py"}


def test_a_blob_has_gits_own_name(repository: Path) -> None:
    expected = git(repository, "rev-parse", "HEAD:notes.txt")
    assert workspace.blob_id(b"mine\n").decode() == expected

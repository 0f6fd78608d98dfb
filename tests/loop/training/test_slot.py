"""A slot is exactly the candidate's tree, whatever the last trainer did to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop.records.repository import Repository
from loop.training import slot
from tests.conftest import git


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


@pytest.fixture
def exported(repository: Path, tmp_path: Path) -> tuple[Repository, str, Path]:
    (repository / "data").mkdir()
    (repository / "data/tokens.bin").write_bytes(b"\0\1\2")
    (repository / "run.sh").write_text("#!/bin/sh\n")
    (repository / "run.sh").chmod(0o755)
    (repository / "link.py").symlink_to("train.py")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "more")
    found = Repository.discover(repository)
    slot.Slot(tmp_path / "slot").export(found, found.head())
    return found, found.head(), tmp_path / "slot"


def test_it_is_what_git_would_check_out(exported: tuple[Repository, str, Path], tmp_path: Path) -> None:
    repository, commit, folder = exported
    git(repository.root, "worktree", "add", "-q", "--detach", str(tmp_path / "wt"), commit)
    (tmp_path / "wt/.git").unlink()
    assert {k: v[1] for k, v in tree(folder).items()} == {k: v[1] for k, v in tree(tmp_path / "wt").items()}
    assert os.access(folder / "run.sh", os.X_OK)
    assert (folder / "link.py").is_symlink()


def damage(folder: Path, kind: str) -> None:
    """Something a trainer might do to its slot."""
    notes = folder / "notes.txt"
    match kind:
        case "changed file":
            notes.write_text("yours\n")
        case "deleted file":
            notes.unlink()
        case "changed mode":
            (folder / "run.sh").chmod(0o644)
        case "new file":
            (folder / "checkpoint.pt").write_bytes(b"x" * 1000)
        case "new folder":
            (folder / "data/cache").mkdir()
            (folder / "data/cache/x").touch()
        case "closed folder":
            (folder / "data").chmod(0o500)
        case "link elsewhere":
            (folder / "link.py").unlink()
            (folder / "link.py").symlink_to("/etc/passwd")
        case "folder for a file":
            (folder / "train.py").unlink()
            (folder / "train.py").mkdir()
            (folder / "train.py/x").touch()
        case "link for a file":
            notes.rename(folder / "other")
            notes.symlink_to("other")
        case "link for a folder":
            (folder / "data").rename(folder / "elsewhere")
            (folder / "data").symlink_to("elsewhere")
        case "hard link":
            os.link(notes, folder.parent / "outside")


KINDS = [
    "changed file", "deleted file", "changed mode", "new file", "new folder", "closed folder",
    "link elsewhere", "folder for a file", "link for a file", "link for a folder", "hard link",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_trainer_did_is_undone(exported: tuple[Repository, str, Path], kind: str) -> None:
    repository, commit, folder = exported
    before = tree(folder)
    damage(folder, kind)
    slot.Slot(folder).export(repository, commit)
    assert tree(folder) == before
    assert (folder / "notes.txt").lstat().st_nlink == 1


def test_only_what_differs_is_written(exported: tuple[Repository, str, Path]) -> None:
    repository, commit, folder = exported
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    candidate = repository.commit(commit, "train.py", "X = 1\n", "m")
    slot.Slot(folder).export(repository, candidate)
    changed = {path.name for path, mtime in before.items() if path.lstat().st_mtime_ns != mtime}
    assert changed == {"train.py"}


@pytest.mark.parametrize("kind", ["sparse", "pipe", "link to a device"])
def test_what_a_training_put_in_the_place_of_a_file_is_not_read(
    exported: tuple[Repository, str, Path], kind: str
) -> None:
    """A pipe would be waited for, a device or forty gigabytes of zeros would fill the memory."""
    repository, commit, folder = exported
    path = folder / "notes.txt"
    path.unlink()
    match kind:
        case "sparse":
            with path.open("wb") as file:
                file.truncate(40 * 2**30)
        case "pipe":
            os.mkfifo(path)
        case _:
            path.symlink_to("/dev/zero")
    found = slot.Slot(folder)
    assert found.changed(repository, commit, "train.py") == ["notes.txt"]
    found.export(repository, commit)
    assert path.read_text() == "mine\n"


def test_files_that_a_training_changed_or_removed_are_named(
    exported: tuple[Repository, str, Path],
) -> None:
    repository, commit, folder = exported
    found = slot.Slot(folder)
    assert found.changed(repository, commit, "train.py") == []
    (folder / "train.py").write_text("mine\n")
    (folder / "notes.txt").write_text("yours\n")
    (folder / "run.sh").unlink()
    (folder / "new.txt").touch()
    assert sorted(found.changed(repository, commit, "train.py")) == ["notes.txt", "run.sh"]


def test_an_inventory_shows_what_changed(tmp_path: Path) -> None:
    (tmp_path / "data/more").mkdir(parents=True)
    for name in ("data/a", "data/more/b"):
        (tmp_path / name).write_text("x")
    folders = [tmp_path / "data", tmp_path / "missing"]
    before = slot.inventory(folders)
    assert set(before) == {str(tmp_path / "data/a"), str(tmp_path / "data/more/b")}
    (tmp_path / "data/a").write_text("longer")
    after = slot.inventory(folders)
    assert [path for path in before if before[path] != after[path]] == [str(tmp_path / "data/a")]


def test_a_new_slot_takes_the_place_of_the_old_one_which_is_left_to_be_removed(
    exported: tuple[Repository, str, Path],
) -> None:
    repository, commit, folder = exported
    found = slot.Slot(folder)
    found.prepare(repository, commit)
    (folder / "left").touch()
    inside, ready = folder.stat().st_ino, found.spare.stat().st_ino
    found.renew()
    assert folder.stat().st_ino == ready
    assert not found.spare.exists()
    (old,) = map(Path, found.left())
    assert (old.stat().st_ino, (old / "left").exists()) == (inside, True)
    found.renew()  # without a spare one nothing is there, and `export` makes it
    found.export(repository, commit)
    assert sorted(tree(folder)) == sorted(set(tree(old)) - {"left"})
    assert len(found.left()) == 2

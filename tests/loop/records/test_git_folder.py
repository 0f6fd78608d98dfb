"""A git folder with something odd in the place of a file is refused, and nobody waits for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loop.errors import UsageError
from loop.records import git_folder
from loop.records.repository import Repository


@pytest.fixture
def patience() -> Iterator[None]:
    """What waits for a pipe is ended."""

    def end(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("patience")
def test_a_pipe_in_the_place_of_a_branch_is_refused(repository: Path) -> None:
    os.mkfifo(repository / ".git/refs/heads/x")
    with pytest.raises(UsageError, match="refs/heads/x is no plain file"):
        Repository.discover(repository)


@pytest.mark.usefixtures("patience")
def test_a_git_file_that_leads_to_odd_files_is_refused(repository: Path, tmp_path: Path) -> None:
    """As `git worktree` and submodules have one."""
    elsewhere = tmp_path / "elsewhere"
    (repository / ".git").rename(elsewhere)
    (repository / ".git").write_text(f"gitdir: {elsewhere}\n")
    Repository.discover(repository).close()
    (elsewhere / "packed-refs").unlink(missing_ok=True)
    os.mkfifo(elsewhere / "packed-refs")
    with pytest.raises(UsageError, match="packed-refs is no plain file"):
        Repository.discover(repository)


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["HEAD", "config", "packed-refs", "objects/info/alternates", "commondir"])
def test_odd_files_of_a_git_folder_are_refused_in_one_line(repository: Path, name: str, kind: str) -> None:
    """They cannot be committed, but a folder can be sent as it is."""
    path = repository / ".git" / name
    path.unlink(missing_ok=True)
    ODD[kind](path)
    with pytest.raises(UsageError) as error:
        Repository.discover(repository).head()
    assert "\n" not in str(error.value)


def test_a_usual_git_folder_has_nothing_odd(repository: Path) -> None:
    assert git_folder.odd_file(repository) is None
    assert git_folder.odd_file(repository / "deep/inside") is None


def test_a_lock_of_git_that_goes_meanwhile_is_nothing_odd(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`git gc` makes one beside each ref, which is gone before anyone can look what it is."""
    refs = repository / ".git/refs/heads"
    monkeypatch.setattr(os, "walk", lambda top: iter([(str(refs), [], ["main.lock"])]))
    assert git_folder.odd_file(repository) is None

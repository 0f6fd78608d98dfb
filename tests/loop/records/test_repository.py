"""Git without a working tree: real repositories, real git to check against."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dulwich.repo import Repo

from loop.errors import BranchMoved, UsageError
from loop.records.repository import STALE_S, Repository, branch_of, candidate_ref
from tests.conftest import git, make_repository


@pytest.fixture
def opened(repository: Path) -> Iterator[Repository]:
    found = Repository.discover(repository)
    yield found
    found.close()


def candidate(repository: Repository, text: str = "X = 1\n") -> str:
    return repository.commit(repository.head(), "train.py", text, "a change")


def test_it_is_found_from_a_folder_below(repository: Path) -> None:
    (repository / "deep/er").mkdir(parents=True)
    found = Repository.discover(repository / "deep/er")
    assert found.root == repository
    found.close()


def test_a_branch_is_found_here_and_as_it_was_fetched(repository: Path, tmp_path: Path) -> None:
    git(repository, "branch", "exp/mar8")
    git(tmp_path, "clone", "-q", str(repository), "clone")
    head = git(repository, "rev-parse", "HEAD")
    for root in (repository, tmp_path / "clone"):
        found = Repository.discover(root)
        assert found.branch("exp/mar8") == head
        assert [found.branch(name) for name in ("gone", "..", "a b", "")] == [None] * 4
        assert found.commits(head[:6]) == [head]
        assert found.commits("") == found.commits("abcdef012345") == []
        found.close()


@pytest.mark.parametrize("kind", ["none", "bare", "empty", "future"])
def test_what_cannot_be_worked_on_is_said_in_one_sentence(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    if kind == "bare":
        git(folder, "init", "-q", "--bare")
    elif kind != "none":
        git(folder, "init", "-q")
    if kind == "future":
        git(folder, "config", "core.repositoryformatversion", "1")
        git(folder, "config", "extensions.fromtomorrow", "true")
    with pytest.raises(UsageError) as caught:
        Repository.discover(folder).head()
    assert "\n" not in str(caught.value)


def test_a_commit_is_packed_with_its_files_and_without_its_history(
    opened: Repository, tmp_path: Path
) -> None:
    first, commit = opened.head(), candidate(opened)
    there = Repository.at(tmp_path / "there")
    for packed in (opened.packed(commit), opened.packed(first), opened.packed(commit)):
        there.add(packed)
    assert list(there.files(commit)) == list(opened.files(commit))
    assert all(there.blob(sha) == opened.blob(sha) for _, _, sha in opened.files(commit))
    there.close()
    again = Repository.at(tmp_path / "there")
    assert again.read(commit, "train.py") == "X = 1\n"
    again.close()


def test_a_commit_changes_one_file_and_nothing_else(opened: Repository) -> None:
    commit = candidate(opened)
    assert git(opened.root, "diff", "--name-only", "HEAD", commit) == "train.py"
    assert git(opened.root, "show", f"{commit}:train.py") == "X = 1"
    assert opened.read(commit, "train.py") == "X = 1\n"
    assert opened.read(commit, "nothing.py") is None
    assert opened.read(commit, "train.py/deeper") is None
    git(opened.root, "fsck", "--strict")
    assert git(opened.root, "status", "--porcelain") == ""


def test_an_executable_file_in_a_folder_stays_executable(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "r")
    (root / "sub").mkdir()
    (root / "sub/train.py").write_text("X = 0\n")
    (root / "sub/train.py").chmod(0o755)
    git(root, "add", ".")
    git(root, "commit", "-qm", "sub")
    repository = Repository.discover(root)
    commit = repository.commit(repository.head(), "sub/train.py", "X = 1\n", "m")
    assert git(root, "ls-tree", commit, "sub/train.py").startswith("100755")
    repository.close()


def test_an_earlier_attempt_at_a_candidate_stays_reachable(opened: Repository) -> None:
    first, second, third = (candidate(opened, f"X = {i}\n") for i in range(3))
    for commit in (first, second, second, third):
        opened.keep_candidate("t", 7, commit)
    ref = candidate_ref("t", 7)
    assert [opened.resolve(r) for r in (ref, f"{ref}-1", f"{ref}-2", f"{ref}-3")] == [
        third, first, second, None,
    ]  # fmt: skip


def test_the_branch_moves_by_compare_and_swap(opened: Repository) -> None:
    base, new = opened.head(), candidate(opened)
    opened.advance(branch_of("t"), None, base)
    opened.advance(branch_of("t"), base, new)
    opened.advance(branch_of("t"), base, new)  # again after a kill: there already
    assert git(opened.root, "rev-parse", "autoresearch/t") == new
    git(opened.root, "branch", "-f", "autoresearch/t", base)
    with pytest.raises(BranchMoved, match="put it back, or start another --tag"):
        opened.advance(branch_of("t"), new, candidate(opened, "X = 2\n"))
    with pytest.raises(BranchMoved):
        opened.advance(branch_of("t"), None, new)
    assert git(opened.root, "rev-parse", "autoresearch/t") == base


def test_a_branch_that_is_checked_out_is_noticed_wherever_it_is(opened: Repository, tmp_path: Path) -> None:
    opened.advance(branch_of("t"), None, opened.head())
    assert opened.checked_out("autoresearch/t") is None
    git(opened.root, "worktree", "add", "-q", str(tmp_path / "elsewhere"), "autoresearch/t")
    assert opened.checked_out("autoresearch/t") == tmp_path / "elsewhere"
    assert opened.checked_out("main") == opened.root
    other = Repository.discover(tmp_path / "elsewhere")
    assert other.checked_out("main") == opened.root
    other.close()


def test_a_note_can_be_written_again(opened: Repository) -> None:
    commit = candidate(opened)
    opened.keep_candidate("t", 1, commit)
    for text in ("status: keep\n", "status: discard\n"):
        opened.note(commit, text)
    assert git(opened.root, "notes", "--ref=autoresearch", "show", commit) == "status: discard"


def stale(path: Path, age_s: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_locks_of_a_killed_engine_go_and_others_stay(opened: Repository) -> None:
    control = opened.root / ".git"
    ours = [
        stale(control / name, 60)
        for name in (
            "refs/heads/autoresearch/t.lock",
            "refs/autoresearch/t/0001.lock",
            "refs/notes/autoresearch.lock",
            f"objects/ab/{'c' * 38}.lock",
        )
    ]
    others = [stale(control / "index.lock", 60), stale(control / "refs/autoresearch/other/0001.lock", 60)]
    young = stale(control / "refs/autoresearch/t/0002.lock", 0)
    assert sorted(opened.clear_stale_locks("t")) == sorted(ours)
    assert all(path.exists() for path in [*others, young])


def test_a_stale_lock_met_later_is_waited_out(opened: Repository) -> None:
    commit = candidate(opened)
    lock = stale(opened.root / ".git/refs/autoresearch/t/0001.lock", STALE_S - 0.3)
    began = time.monotonic()
    opened.keep_candidate("t", 1, commit)
    assert 0.1 < time.monotonic() - began < 3
    assert opened.resolve(candidate_ref("t", 1)) == commit
    assert not lock.exists()


def test_git_gc_beside_loses_nothing(opened: Repository) -> None:
    commits, base = [], opened.head()
    opened.advance(branch_of("t"), None, base)
    gc = None
    for n in range(1, 60):
        if n % 15 == 1:
            if gc:
                assert gc.wait() == 0
            gc = subprocess.Popen(["git", "gc", "-q"], cwd=opened.root)
        commit = opened.commit(base, "train.py", f"X = {n}\n", "m")
        opened.keep_candidate("t", n, commit)
        opened.advance(branch_of("t"), base, commit)
        opened.note(commit, "status: keep\n")
        commits.append(base := commit)
    assert gc is not None
    assert gc.wait() == 0
    git(opened.root, "fsck", "--strict")
    refs = git(opened.root, "for-each-ref", "--format=%(objectname)", "refs/autoresearch/t").split()
    assert refs == commits
    assert git(opened.root, "rev-parse", "autoresearch/t") == commits[-1]


def test_objects_are_on_disk_before_the_journal_names_them(opened: Repository) -> None:
    with Repo(str(opened.root)) as other:
        assert not other.object_store.fsync_object_files
    assert opened._repo.object_store.fsync_object_files


WRITES: dict[str, Callable[[Repository, str], object]] = {
    "refs/notes/autoresearch": lambda opened, commit: opened.note(commit, "text"),
    "refs/heads/autoresearch/t": lambda opened, commit: opened.advance("autoresearch/t", None, commit),
    "refs/autoresearch/t/0001": lambda opened, commit: opened.keep_candidate("t", 1, commit),
}


@pytest.mark.parametrize("ref", WRITES)
def test_a_ref_that_leads_to_the_users_branch_is_not_written_through(repository: Path, ref: str) -> None:
    """A repository that came as an archive may hold such a ref."""
    branch, before = git(repository, "symbolic-ref", "HEAD").strip(), git(repository, "rev-parse", "HEAD")
    git(repository, "symbolic-ref", ref, branch)
    opened = Repository.discover(repository)
    commit = opened.commit(opened.head(), "train.py", "X = 1\n", "changed")
    with pytest.raises(UsageError, match=f"{ref} leads to another ref"):
        WRITES[ref](opened, commit)
    opened.close()
    assert git(repository, "rev-parse", "HEAD") == before

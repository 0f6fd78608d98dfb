"""Packed refs are looked up in git's file; git and dulwich see the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from dulwich.objects import ObjectID
from dulwich.refs import DiskRefsContainer, Ref
from dulwich.repo import Repo

from loop.records import refs
from loop.records.refs import PackedRefs
from loop.records.repository import Repository
from tests.conftest import git


@pytest.fixture
def packed(repository: Path) -> Path:
    """A repository whose refs git has packed: branches, experiments, and a tag with an object of its own."""
    for n in range(1, 4):
        git(repository, "commit", "--allow-empty", "-m", f"number {n}")
        git(repository, "update-ref", f"refs/autoresearch/t/{n:04d}", "HEAD")
    git(repository, "tag", "-a", "v1", "-m", "annotated")
    git(repository, "branch", "autoresearch/t")
    git(repository, "pack-refs", "--all")
    return repository


def test_the_same_refs_as_dulwich_finds(packed: Path) -> None:
    expected = DiskRefsContainer(packed / ".git").get_packed_refs()
    found = refs.Refs(packed / ".git").get_packed_refs()
    assert len(found) == len(expected) > 5
    assert dict(found) == expected
    assert found.get(Ref(b"refs/autoresearch/t/000")) is None  # the beginning of a name
    assert Ref(b"refs/autoresearch/t") not in found


def test_nothing_is_kept_and_what_git_packs_meanwhile_is_seen(packed: Path) -> None:
    with Repo(str(packed)) as repo:
        refs.use(repo)
        assert Ref(b"refs/autoresearch/t/0002") in repo.refs
        git(packed, "update-ref", "refs/autoresearch/t/0004", "HEAD")
        git(packed, "pack-refs", "--all")
        assert repo.refs[Ref(b"refs/autoresearch/t/0004")] == repo.head()
        assert repo.refs._packed_refs is None  # type: ignore[attr-defined]


def test_moving_packed_refs(packed: Path) -> None:
    repository = Repository.discover(packed)
    first, head = git(packed, "rev-parse", "refs/autoresearch/t/0001").strip(), repository.head()
    assert repository.resolve("refs/autoresearch/t/0001") == first
    repository.advance("autoresearch/t", head, first)
    repository.keep_candidate("t", 2, first)
    assert repository.resolve("refs/autoresearch/t/0002") == first
    assert repository.resolve("refs/autoresearch/t/0002-1") is not None
    assert repository.tags() == ["t"]
    assert git(packed, "rev-parse", "autoresearch/t").strip() == first
    git(packed, "fsck", "--strict")


def test_a_worktree_has_its_own_head_and_the_refs_of_all(packed: Path, tmp_path: Path) -> None:
    git(packed, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"), "HEAD~1")
    repository = Repository.discover(tmp_path / "tree")
    assert repository.head() == git(packed, "rev-parse", "HEAD~1").strip()
    assert repository.resolve("refs/autoresearch/t/0003") == git(packed, "rev-parse", "HEAD").strip()


def test_without_the_file_there_are_none(tmp_path: Path) -> None:
    assert dict(refs.Refs(tmp_path).get_packed_refs()) == {}


def test_comments_and_peeled_objects_are_no_refs() -> None:
    one, other = "1" * 40, "2" * 40
    found = PackedRefs(f"# pack-refs with: peeled\n{one} refs/tags/v1\n^{other}\n{other} refs/x y\n".encode())
    assert dict(found) == {
        Ref(b"refs/tags/v1"): ObjectID(one.encode()),
        Ref(b"refs/x y"): ObjectID(other.encode()),
    }

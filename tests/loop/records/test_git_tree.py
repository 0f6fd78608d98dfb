"""A commit whose files could not be written to a folder, or would lead out of it, is refused."""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from dulwich.objects import ObjectID, TreeEntry

from loop.cli.__main__ import main
from loop.errors import UsageError
from loop.records import git_tree
from loop.records.repository import Repository
from tests.conftest import git

FILE, LINK, FOLDER = "100644", "120000", "40000"


class Objects:
    """Writes objects that git itself would not make."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.train = self.put("blob", (root / "train.py").read_bytes())

    def put(self, kind: str, content: bytes) -> str:
        whole = f"{kind} {len(content)}".encode() + b"\0" + content
        name = hashlib.sha1(whole).hexdigest()
        path = self.root / ".git/objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(zlib.compress(whole))
        return name

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        lines = (f"{mode} ".encode() + name + b"\0" + bytes.fromhex(sha) for mode, name, sha in entries)
        return self.put("tree", b"".join(lines))

    def commit(self, *entries: tuple[str, bytes, str]) -> str:
        """Make HEAD a commit of train.py and these entries."""
        tree = self.tree(*entries, (FILE, b"train.py", self.train))
        who = "a <a@b> 1 +0000"
        made = self.put("commit", f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n".encode())
        branch = git(self.root, "symbolic-ref", "HEAD").strip()
        (self.root / ".git" / branch).write_text(made + "\n")
        return made


@pytest.fixture
def objects(repository: Path) -> Objects:
    return Objects(repository)


def above(o: Objects, out: Path) -> list[tuple[str, bytes, str]]:
    up = o.tree((FILE, b"owned", o.train))
    for _ in range(4):
        up = o.tree((FOLDER, b"..", up))
    return [(FOLDER, b"..", up)]


def bomb(o: Objects, out: Path) -> list[tuple[str, bytes, str]]:
    same = o.tree((FILE, b"f", o.train))
    for _ in range(9):
        same = o.tree(*((FOLDER, b"%d" % i, same) for i in range(10)))
    return [(FOLDER, b"bomb", same)]


def empty_bomb(o: Objects, out: Path) -> list[tuple[str, bytes, str]]:
    same = o.tree()
    for _ in range(9):
        same = o.tree(*((FOLDER, b"%d" % i, same) for i in range(10)))
    return [(FOLDER, b"bomb", same)]


def deep(o: Objects, out: Path) -> list[tuple[str, bytes, str]]:
    tree = o.tree((FILE, b"f", o.train))
    for _ in range(1100):
        tree = o.tree((FOLDER, b"d", tree))  # more bytes than a path may have
    return [(FOLDER, b"d", tree)]


def ignore_case(root: Path) -> None:
    """As it looks where a file system does not tell capital letters apart."""
    (root / ".GIT").mkdir(exist_ok=True)


def linked(o: Objects, out: Path) -> list[tuple[str, bytes, str]]:
    """One of the two goes through the other where the file system does not tell capital letters apart."""
    ignore_case(o.root)
    inner = o.tree((FILE, b"owned", o.train))
    return [(LINK, b"a", o.put("blob", bytes(out))), (FOLDER, b"A", inner)]


def through(o: Objects, out: Path) -> list[tuple[str, bytes, str]]:
    return [(LINK, b"a", o.put("blob", bytes(out))), (FILE, b"a/owned", o.train)]


ODD: dict[str, Callable[[Objects, Path], list[tuple[str, bytes, str]]]] = {
    "a folder above": above,
    "an absolute path": lambda o, out: [(FILE, bytes(out / "owned"), o.train)],
    "a path as a name": lambda o, out: [(FILE, b"../../../../owned", o.train)],
    "this folder": lambda o, out: [(FOLDER, b".", o.tree((FILE, b"x", o.train)))],
    "a folder of git's": lambda o, out: [(FOLDER, b".GIT", o.tree((FILE, b"config", o.train)))],
    "a link and a folder in capitals": linked,
    "a link and a path through it": through,
    "a long name": lambda o, out: [(FILE, b"x" * 256, o.train)],
    "a steering name": lambda o, out: [(FILE, b"\x1b[2J\xff/..", o.train)],
    "a billion files": bomb,
    "a billion empty folders": empty_bomb,
    "deep folders": deep,
    "a missing object": lambda o, out: [(FOLDER, b"x", "1" * 40)],
    "a file as a folder": lambda o, out: [(FOLDER, b"x", o.train)],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_of_a_commit_are_refused(
    objects: Objects, repository: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_tree, "FILES_MOST", 2000)  # to count to the real ones takes seconds
    monkeypatch.setattr(git_tree, "FOLDERS_MOST", 200)
    out = repository.parent / "out"
    out.mkdir()
    commit = objects.commit(*ODD[name](objects, out))
    opened = Repository.discover(repository)
    with pytest.raises(UsageError) as refused:
        opened.files(commit)
    opened.close()
    assert str(refused.value).isprintable()


def test_what_is_refused_is_named_as_it_is_with_what_to_do(
    objects: Objects, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignore_case(repository)
    inner = objects.tree((FILE, b"x", objects.train))
    commit = objects.commit((LINK, "É".encode(), objects.put("blob", b"x")), (FOLDER, "é".encode(), inner))
    opened = Repository.discover(repository)
    with pytest.raises(UsageError, match=r"a link 'É' and a folder 'é', .* give one of them another name"):
        opened.files(commit)
    monkeypatch.setattr(git_tree, "FOLDERS_MOST", 1)
    with pytest.raises(UsageError, match="1 folders: commit fewer, data may lie outside the repository"):
        opened.files(commit)
    opened.close()


@pytest.mark.parametrize(
    ("link", "folder", "refused"), [("Docs", "docs", False), ("\u00e9", "e\u0301", True)]
)
def test_a_link_beside_a_folder_in_small_letters_is_usual(
    objects: Objects, repository: Path, link: str, folder: str, refused: bool
) -> None:
    """Where the file system tells them apart; an accent may be one file even there."""
    inner = objects.tree((FILE, b"x", objects.train))
    commit = objects.commit(
        (LINK, link.encode(), objects.put("blob", b"docs")), (FOLDER, folder.encode(), inner)
    )
    opened = Repository.discover(repository)
    with pytest.raises(UsageError) if refused else contextlib.nullcontext():
        assert {path for path, *_ in opened.files(commit)} == {link, f"{folder}/x", "train.py"}
    opened.close()


def test_a_commit_of_many_folders_is_none_too_large(repository: Path) -> None:
    entries = [TreeEntry(b"%d" % i, 0o40000, ObjectID(b"1" * 40)) for i in range(21_000)]
    assert git_tree.files(entries, ignores_case=False) == []


@pytest.mark.parametrize("name", ["a folder above", "an absolute path", "a link and a path through it"])
def test_a_run_writes_nothing_outside_its_slot(
    objects: Objects,
    repository: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = repository.parent / "out"
    out.mkdir()
    objects.commit(*ODD[name](objects, out))
    monkeypatch.chdir(repository)
    words = ["run", "--headless", "--tag", "t", "--agent", "search", "--max-experiments", "1"]
    assert main(words) == 2
    assert "this commit holds" in capsys.readouterr().err
    assert list(repository.parent.rglob("owned")) == []


def test_files_that_can_be_written_are_listed_and_submodules_are_not(
    objects: Objects, repository: Path
) -> None:
    folder = objects.tree((FILE, b"\xff\n", objects.train), (LINK, b"l", objects.put("blob", b"/etc")))
    commit = objects.commit((FOLDER, b"README", folder), ("160000", b"sub", "1" * 40))
    opened = Repository.discover(repository)
    found = sorted((path, mode) for path, mode, _ in opened.files(commit))
    opened.close()
    assert found == [("README/l", 0o120000), ("README/\udcff\n", 0o100644), ("train.py", 0o100644)]


def test_an_object_that_is_too_large_or_broken_is_one_line(objects: Objects, repository: Path) -> None:
    name = objects.train
    commit = objects.commit()
    path = repository / ".git/objects" / name[:2] / name[2:]
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"blob 5\0hello")[:-3])
    opened = Repository.discover(repository)
    with pytest.raises(UsageError, match=r"git's objects of [0-9a-f]+ cannot be read"):
        opened.read(commit, "train.py")
    with pytest.raises(UsageError, match="cannot be read"):
        opened.blob(name.encode())
    opened.close()

"""A git folder with something odd in the place of a file is refused, and nobody waits for it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loop.errors import UsageError
from loop.records import git_folder
from loop.records.repository import Repository
from loop.records.writer import Writer
from tests.conftest import git


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


def loose(repository: Path) -> Path:
    """The file of the commit that HEAD is at."""
    commit = git(repository, "rev-parse", "HEAD").strip()
    path = repository / ".git/objects" / commit[:2] / commit[2:]
    path.chmod(0o600)
    return path


def sparse(path: Path) -> None:
    """A file that claims forty gigabytes, all zeros, and takes no room."""
    with path.open("wb") as file:
        file.truncate(40 * 2**30)


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_instead(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def in_a_pack(repository: Path, ending: str) -> Path:
    git(repository, "gc", "-q")
    return next((repository / ".git/objects/pack").glob(f"*{ending}"))


def other_objects(repository: Path) -> None:
    """Objects elsewhere, as `git clone --shared` has them."""
    elsewhere = repository.with_name("elsewhere") / "ab"
    elsewhere.mkdir(parents=True)
    os.mkfifo(elsewhere / ("c" * 38))
    (repository / ".git/objects/info/alternates").write_text(f"{elsewhere.parent}\n")


def included(repository: Path) -> None:
    """Settings that include settings that include a pipe, by a link."""
    control = repository / ".git"
    os.mkfifo(control / "pipe")
    (control / "more").write_text('[includeIf "gitdir:x"]\n\tpath = pipe\n')
    (control / "link").symlink_to("more")
    with (control / "config").open("a") as file:
        file.write("[include]\n\tpath = link\n")


def linked_folder(repository: Path, name: str) -> None:
    """A link to a folder with a pipe: whoever walks along real folders does not see what is behind it."""
    elsewhere = repository.with_name("linked")
    elsewhere.mkdir()
    os.mkfifo(elsewhere / "x")
    (repository / ".git" / name).symlink_to(elsewhere)


def nested(repository: Path) -> None:
    """Folders in each other, as many as no branch has parts: a walk along thousands of them ends badly."""
    folder = os.open(repository / ".git/refs/heads", os.O_RDONLY)
    for _ in range(100):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)


def circle(repository: Path) -> None:
    """Objects that are said to be elsewhere, and back again."""
    elsewhere = repository.with_name("elsewhere") / "info"
    elsewhere.mkdir(parents=True)
    (elsewhere / "alternates").write_text(f"{repository}/.git/objects\n")
    (repository / ".git/objects/info/alternates").write_text(f"{elsewhere.parent}\n")


def in_no_folder(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    (repository / ".git").write_bytes(b"gitdir: g\0x\n")


def settings_that_break_off(repository: Path) -> None:
    """Whoever reads them has opened the pipe before the line that nobody understands."""
    os.mkfifo(repository / ".git/p")
    (repository / ".git/config").write_text("[include]\n\tpath = p\n[x]\n!! = 1\n")


def spaced(repository: Path) -> None:
    """A folder with a space at its end, beside one without."""
    elsewhere = repository.with_name("elsewhere")
    (repository / ".git").rename(elsewhere)
    shutil.copytree(elsewhere, elsewhere.with_name("elsewhere "))
    pipe_instead(elsewhere.with_name("elsewhere ") / "HEAD")
    (repository / ".git").write_text(f"gitdir: {elsewhere} \n")


def carriage_return(repository: Path) -> None:
    """Git takes what ends a line elsewhere for a part of the name."""
    elsewhere = repository.with_name("elsewhere\r") / "ab"
    elsewhere.mkdir(parents=True)
    os.mkfifo(elsewhere / ("c" * 38))
    (repository / ".git/objects/info/alternates").write_bytes(os.fsencode(elsewhere.parent) + b"\n")


def replaced(repository: Path) -> None:
    """A byte that is no UTF-8 stands for a character of its own when settings are read."""
    os.mkfifo(repository / ".git/p\ufffd")
    with (repository / ".git/config").open("ab") as file:
        file.write(b"[include]\n\tpath = p\xff\n")


def outer(repository: Path) -> None:
    """An empty `.git` on the way to the repository is passed over by git."""
    (repository / "sub/.git").mkdir(parents=True)
    (repository / ".git/packed-refs").unlink(missing_ok=True)
    os.mkfifo(repository / ".git/packed-refs")


def far_away(repository: Path) -> None:
    """A name of a folder, and more ends of lines than anyone expects."""
    elsewhere = repository.with_name("elsewhere")
    shutil.copytree(repository / ".git", elsewhere)
    pipe_instead(elsewhere / "config")
    (repository / ".git/commondir").write_text(f"{elsewhere}" + "\n" * 2**21)


HIDDEN: dict[str, Callable[[Path], object]] = {
    "a pipe for an object": lambda top: pipe_instead(loose(top)),
    "a device for an object": lambda top: link_instead(loose(top)),
    "forty gigabytes for an object": lambda top: sparse(loose(top)),
    "a pipe for a folder of objects": lambda top: os.mkfifo(top / ".git/objects/zz"),
    "a pipe for a pack": lambda top: pipe_instead(in_a_pack(top, ".pack")),
    "a pipe for the list of a pack": lambda top: pipe_instead(in_a_pack(top, ".idx")),
    "forty gigabytes for the list of a pack": lambda top: sparse(in_a_pack(top, ".idx")),
    "a pipe for the list of all packs": lambda top: os.mkfifo(top / ".git/objects/pack/multi-pack-index"),
    "a pipe among other objects": other_objects,
    "a pipe among the settings": included,
    "a link for a folder of refs": lambda top: linked_folder(top, "refs/remotes"),
    "a link for a folder of objects": lambda top: linked_folder(top, "objects/zz"),
    "endless folders": nested,
    "a pipe before settings that break off": settings_that_break_off,
    "a space in the name of the folder": spaced,
    "a carriage return in the name of a folder of objects": carriage_return,
    "a name of settings that is no text": replaced,
    "a repository around an empty one": outer,
    "a folder of objects that names itself": lambda top: (top / ".git/objects/info/alternates").write_text(
        "."
    ),
    "a common folder with many ends of lines": far_away,
    "a circle of objects": lambda top: circle(top),
    "objects with a name that none can have": (
        lambda top: (top / ".git/objects/info/alternates").write_bytes(b"x\0y\n")
    ),
    "a common folder with a name that none can have": (
        lambda top: (top / ".git/commondir").write_bytes(b"x\0y\n")
    ),
    "a folder with a name that none can have": in_no_folder,
}


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("kind", HIDDEN)
def test_what_is_odd_behind_the_files_that_are_read_at_once_is_refused(repository: Path, kind: str) -> None:
    HIDDEN[kind](repository)
    start = repository / "sub"
    start.mkdir(exist_ok=True)
    with pytest.raises(UsageError, match=TRULY.get(kind, "is no plain file")):
        Repository.discover(start)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("name", ["config", "packed-refs", "HEAD"])
def test_a_bare_layout_is_refused_before_its_files_are_read(tmp_path: Path, name: str) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare")
    (tmp_path / "bare" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "bare" / name)
    with pytest.raises(UsageError, match="is a bare repository"):
        Repository.discover(tmp_path / "bare")


TRULY = {
    "forty gigabytes for an object": "is too large",
    "forty gigabytes for the list of a pack": "is too large",
    "a pipe before settings that break off": "config cannot be understood",
    "a folder of objects that names itself": "leads back to itself",
    "a circle of objects": "leads back to itself",
    "objects with a name that none can have": "is no name of a file",
    "a common folder with a name that none can have": "is no name of a file",
    "a folder with a name that none can have": "is no name of a file",
}
"""What is said of those that are something else than no plain file."""


BROKEN: dict[str, Callable[[Path], object]] = {
    "an object": lambda top: loose(top).write_bytes(b"garbage" * 100),
    "an empty object": lambda top: loose(top).write_bytes(b""),
    "a pack": lambda top: in_a_pack(top, ".pack").write_bytes(b"garbage" * 1000),
    "a sparse pack": lambda top: sparse(in_a_pack(top, ".pack")),
    "packed refs": lambda top: (top / ".git/packed-refs").write_bytes(b"x" * 10**6),
    "settings": lambda top: (top / ".git/config").write_bytes(b"[[\0=\n"),
    "HEAD that leads to itself": lambda top: (top / ".git/HEAD").write_text("ref: HEAD\n"),
    "HEAD": lambda top: (top / ".git/HEAD").write_bytes(b"\xff\x00"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_repository_is_refused_in_one_line(repository: Path, what: str) -> None:
    BROKEN[what](repository)
    with pytest.raises(UsageError) as error:
        Repository.discover(repository).head()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("name", ["gitdir", "HEAD"])
def test_what_stands_for_another_working_tree_is_not_waited_for(repository: Path, name: str) -> None:
    folder = repository / ".git/worktrees/x"
    folder.mkdir(parents=True)
    (folder / "gitdir").write_text("/nowhere/.git\n")
    (folder / "HEAD").write_text("ref: refs/heads/autoresearch/t\n")
    found = Repository.discover(repository)
    assert found.checked_out("autoresearch/t") == Path("/nowhere")
    pipe_instead(folder / name)
    assert found.checked_out("autoresearch/t") in (None, Path("."))
    found.close()


def test_a_folder_that_cannot_be_listed_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it may be entered all the same, whoever knows a name opens what nobody has looked at."""
    scandir = os.scandir

    def closed(folder: str) -> object:
        if folder.endswith("refs/heads"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UsageError, match="refs/heads cannot be listed"):
        Repository.discover(repository)


def test_a_repository_that_says_its_files_are_elsewhere_is_refused(repository: Path, tmp_path: Path) -> None:
    """Ours would be written there. A submodule says so too, and is right."""
    (tmp_path / "home").mkdir()
    git(repository, "config", "core.worktree", str(repository))
    Repository.discover(repository).close()
    git(repository, "config", "core.worktree", str(tmp_path / "home"))
    with pytest.raises(UsageError, match=f"its files are in {tmp_path}/home, not beside it"):
        Repository.discover(repository)


def test_a_usual_git_folder_has_nothing_odd(repository: Path) -> None:
    assert git_folder.find(repository / "deep/inside") == repository
    assert git_folder.whats_odd(repository) is None
    assert git_folder.find(Path("/")) is None


def test_a_lock_of_git_that_goes_meanwhile_is_nothing_odd(repository: Path) -> None:
    """`git gc` makes one beside each ref, which is gone before anyone can look what it is."""
    assert list(git_folder._odd(repository / ".git/refs/heads/main.lock")) == []


def test_a_pack_that_git_has_not_finished_may_be_large(repository: Path) -> None:
    sparse(repository / ".git/objects/pack/tmp_pack_Ab12Cd")
    assert git_folder.whats_odd(repository) is None
    sparse(repository / ".git/refs/heads/tmp_pack_Ab12Cd")
    assert "too large" in (git_folder.whats_odd(repository) or "")


def test_settings_that_include_themselves_and_other_objects_are_usual(repository: Path) -> None:
    shared = repository.with_name("shared")
    git(repository, "clone", "-q", "--shared", str(repository), str(shared))
    git(shared, "pack-refs", "--all")
    git(shared, "worktree", "add", "-q", str(repository.with_name("tree")))
    with (shared / ".git/config").open("a") as file:
        file.write("[include]\n\tpath = config\n\tpath = missing\n")
    assert git_folder.whats_odd(shared) is None
    assert git_folder.whats_odd(repository.with_name("tree")) is None
    Repository.discover(repository.with_name("tree")).close()


def test_who_opens_a_repository_again_does_not_look_at_all_its_files_again(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Repository.discover(repository)
    monkeypatch.setattr(git_folder, "whats_odd", lambda folder: "it looks again")
    again = found.again()
    assert (again.root, again.head()) == (found.root, found.head())
    Writer(found).close()
    again.close()
    found.close()


def make_another(repository: Path, mine: Path, how: str) -> None:
    """Make a folder `mine` whose git folder is, or leads to, that of a repository elsewhere."""
    theirs = repository / ".git"
    if how == "a git file":
        mine.mkdir()
        (mine / ".git").write_text(f"gitdir: {theirs}\n")
    elif how == "a git file to a worktree":
        git(repository, "worktree", "add", "-q", str(repository.parent / "tree"))
        mine.mkdir()
        (mine / ".git").write_text(f"gitdir: {theirs}/worktrees/tree\n")
    elif how == "a link":
        mine.mkdir()
        (mine / ".git").symlink_to(theirs)
    else:
        shutil.copytree(repository, mine)
        if how == "commondir":
            (mine / ".git/commondir").write_text(f"{theirs}\n")
        else:
            shutil.rmtree(mine / ".git" / how)
            (mine / ".git" / how).symlink_to(theirs / how)


@pytest.mark.parametrize(
    "how", ["a git file", "a git file to a worktree", "a link", "commondir", "refs", "objects"]
)
def test_another_repository_of_the_user_is_not_worked_in(repository: Path, tmp_path: Path, how: str) -> None:
    make_another(repository, tmp_path / "mine", how)
    with pytest.raises(UsageError, match="this is no git repository to trust"):
        Repository.discover(tmp_path / "mine")
    Repository.discover(repository).close()


def test_a_worktree_a_submodule_and_a_git_folder_elsewhere_are_worked_in(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"))
    Repository.discover(tmp_path / "tree").close()
    inside = repository / ".git/worktrees/tree"  # as newer versions of git write both
    (inside / "gitdir").write_text("../../../../tree/.git\n")
    (tmp_path / "tree/.git").write_text(f"gitdir: ../{repository.name}/.git/worktrees/tree\n")
    Repository.discover(tmp_path / "tree").close()
    (tmp_path / "tree").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="git worktree repair"):
        Repository.discover(tmp_path / "moved")
    git(repository, "init", "-q", f"--separate-git-dir={tmp_path / 'apart'}", str(tmp_path / "new"))
    Repository.discover(tmp_path / "new").close()
    words = ("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(repository), "sub")
    outer = tmp_path / "outer"
    git(repository, "init", "-q", str(outer))
    git(outer, *words)
    Repository.discover(outer / "sub").close()


@pytest.mark.parametrize("linked", [True, False])
def test_a_git_folder_apart_is_worked_in_once_it_names_its_files(
    repository: Path, tmp_path: Path, linked: bool
) -> None:
    """As on a larger disk, by a link or by `git init --separate-git-dir`."""
    (tmp_path / "big").mkdir()
    there = (repository / ".git").rename(tmp_path / "big/.git")
    if linked:
        (repository / ".git").symlink_to(there)
    else:
        (repository / ".git").write_text(f"gitdir: {there}\n")
    with pytest.raises(UsageError, match=f"`git config core.worktree {repository}` says so"):
        Repository.discover(repository)
    git(repository, "config", "core.worktree", str(tmp_path))
    with pytest.raises(UsageError, match="leads to the repository of"):
        Repository.discover(repository)
    git(repository, "config", "core.worktree", str(repository))
    found = Repository.discover(repository)
    assert (found.root, found.resolve("HEAD")) == (repository, found.head())
    found.close()


def test_objects_on_a_larger_disk_are_used(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    objects = repository / ".git/objects"
    there = objects.rename(tmp_path / "big/objects")
    objects.symlink_to(there)
    found = Repository.discover(repository)
    assert found.commit(found.head(), "train.py", "X = 1", "it writes there, too")
    found.close()
    (there / "id_rsa").write_text("mine")
    with pytest.raises(UsageError, match="no folder for objects alone"):
        Repository.discover(repository)
    shutil.rmtree(there)
    with pytest.raises(UsageError):
        Repository.discover(repository)


def test_who_shares_objects_by_links_is_told_what_to_do(repository: Path, tmp_path: Path) -> None:
    """As `git-new-workdir` did before there was `git worktree`."""
    for how in ("refs", "objects"):
        make_another(repository, tmp_path / how, how)
        with pytest.raises(UsageError, match="`git worktree add` and `git clone` make none"):
            Repository.discover(tmp_path / how)


def test_a_folder_whose_name_is_no_text_is_refused_in_one_line(repository: Path, tmp_path: Path) -> None:
    """Its name could be written neither to the journal nor to the memory of what is trusted."""
    odd = tmp_path / os.fsdecode(b"odd\xff")
    repository.rename(odd)
    with pytest.raises(UsageError, match="odd is not UTF-8"):
        Repository.discover(odd)

"""Looks for what must not be read in a git folder: pipes, devices and folders in the place of files.

They cannot be committed, but a repository can come as an archive with its `.git`. Whoever reads a pipe waits
for ever, and whoever reads a device or a file of forty gigabytes of zeros fills the memory.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from dulwich.config import ConfigFile

from loop.errors import UsageError
from loop.text import is_text, one_line

NAMES = ("HEAD", "packed-refs", "commondir", "shallow", "index", "info/grafts", "info/exclude")
"""Files that are read whenever a repository is opened."""
SETTINGS = ("config", "config.worktree")
"""Files of settings that are read then, with those that they include."""
FOLDERS = ("refs", "reftable")
"""Folders of which any file may be read then. Objects are in one more, and in those that it names."""
MOST = 2**30
"""Bytes that one of these files may have: `packed-refs` and `index` can be long. A pack may have more: it is
not read as a whole."""
SMALL = 2**20
"""Bytes that a file may have which names other files: it is searched for them."""
NAMED_MOST = 20
"""How many files of settings may be included, and how many other folders of objects be named."""
DEEPEST = 64
"""Folders in each other below one of these folders: names of branches have a few parts."""
NO_LINKS = "`git worktree add` and `git clone` make none"
OBJECTS = re.compile(r"[0-9a-f]{2}|info|pack|tmp_[^.]*")
"""Names of what lies in a folder of objects."""
UNREAD = re.compile(r"tmp_[^.]*")
"""Names of objects that git has not finished, or that it left when it was killed: nobody reads them."""


def find(start: Path) -> Path | None:
    """The folder whose repository holds `start`, by dulwich's own rule; None when there is none.

    Raises `UsageError` when the first that is found is bare, or when the path to it is no text.
    """
    here = Path(os.path.realpath(start))
    for folder in (here, *here.parents):
        git = folder / ".git"
        if os.path.isfile(git) or os.path.isdir(git / "objects"):
            if not is_text(str(folder)):
                raise UsageError(f"{one_line(str(folder), 1000)} is not UTF-8: give the folder another name")
            return folder
        if os.path.isdir(folder / "objects") and os.path.isdir(folder / "refs"):
            raise UsageError(f"{folder} is a bare repository: clone it and start there")
    return None


def whats_odd(folder: Path) -> str | None:
    """A sentence on the first file of a repository that must not be read; None if all may be."""
    return next(_odd_files(folder / ".git"), None)


def _odd_files(git: Path) -> Iterator[str]:
    """What is odd among the files that are read when the repository is opened, or later."""
    start = git
    if not git.is_dir():
        yield from _odd(git, SMALL)
        git = _named_in(git, b"gitdir: ")
    common = _named_in(git / "commondir", b"")
    for folder in {git, common}:
        for name in NAMES:
            yield from _odd(folder / name)
        for name in SETTINGS:
            yield from _odd_settings(folder / name)
        for name in FOLDERS:
            yield from _odd_below(folder / name)
        yield from _odd_objects(folder / "objects")
    yield from _of_another(start, Path(os.path.realpath(git)), Path(os.path.realpath(common)))


def _of_another(start: Path, git: Path, common: Path) -> Iterator[str]:
    """Whether this would be another repository of the user's, in which we would then write.

    `start`, the `.git` of this folder, or a link may lead there. In a true worktree the folder of git's names
    the worktree in return, and a submodule's says where its files are: `Repository.discover` looks at that.
    """
    own = os.path.realpath(start.parent)
    if git != Path(own, ".git"):
        back = git / "gitdir"
        if back.exists():
            named = git / os.fsdecode(_content(back).rstrip(b"\r\n"))
            if os.path.realpath(named.parent) != own:
                yield f"{git} is of {named.parent} (`git worktree repair` mends a worktree that was moved)"
        elif git.name == ".git" and _working_tree(git) != own:
            yield (
                f"{start} leads to the repository of {git.parent} (if it is of this folder, "
                f"`git config core.worktree {shlex.quote(own)}` says so)"
            )
    if common != git and (git.parent.name != "worktrees" or common != git.parent.parent):
        yield f"{git}/commondir leads to {common}"
    for name in FOLDERS:
        if os.path.islink(common / name):
            yield f"{common / name} is a link ({NO_LINKS})"
    if os.path.islink(common / "objects"):
        yield from _not_apart(common / "objects")


def _working_tree(git: Path) -> str:
    """The folder in which a folder of git's says that its files are; empty when it does not."""
    settings = ConfigFile.from_file(io.BytesIO(_content(git / "config")), expand_includes=False)
    with contextlib.suppress(KeyError):
        return os.path.realpath(os.path.join(git, os.fsdecode(settings.get((b"core",), b"worktree"))))
    return ""


def _not_apart(objects: Path) -> Iterator[str]:
    """A sentence if this link to a folder of objects, as on a larger disk, leads to something else, or into
    another repository."""
    target = Path(os.path.realpath(objects))
    others = not target.is_dir() or any(not OBJECTS.fullmatch(entry.name) for entry in _entries(str(target)))
    if os.path.lexists(target.parent / "HEAD"):
        yield f"{objects} is a link into {target.parent} ({NO_LINKS})"
    elif others:
        yield f"{objects} is a link to {target}, which is no folder for objects alone (move them to one)"


def _odd_below(top: Path, unread: re.Pattern[str] | None = None) -> Iterator[str]:
    """What is no plain file below a folder: a link to a folder is none, nor a folder that lies too deep."""
    folders = [(str(top), 0)]
    while folders:
        folder, depth = folders.pop()
        try:
            entries = _entries(folder)
        except OSError:  # it may be open all the same to whoever knows a name in it
            yield f"{folder} cannot be listed"
            return
        for entry in entries:
            if unread and unread.fullmatch(entry.name):
                continue
            if _is_folder(entry) and depth < DEEPEST:
                folders.append((entry.path, depth + 1))
            else:
                yield from _odd(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing when there is none, or none any more. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):
        return entry.is_dir(follow_symlinks=False)
    return False


def _odd_objects(objects: Path) -> Iterator[str]:
    """What is odd in a folder of objects, and in the others that it says objects are in.

    Dulwich looks for ever for an object that is nowhere when these folders name each other in a circle.
    """
    folders = [(objects, frozenset[str]())]
    for folder, before in folders:  # it grows meanwhile
        alternates = folder / "info/alternates"
        yield from _odd(alternates, SMALL)
        yield from _odd_below(folder, UNREAD)
        through = before | {os.path.realpath(folder)}
        for line in io.BytesIO(_content(alternates)):
            if line.startswith(b"#"):
                continue
            named = folder / os.fsdecode(line.rstrip(b"\n"))
            yield from _odd(named / "info/alternates", SMALL)
            if os.path.realpath(named) in through:
                yield f"{alternates} names a folder of objects that leads back to itself (remove that line)"
            if len(folders) > NAMED_MOST:
                yield f"{alternates} is one of more than {NAMED_MOST} that name folders of objects"
            folders.append((named, through))


def _odd_settings(file: Path) -> Iterator[str]:
    """A file of settings if it is odd, or what is odd among the files that it includes.

    Whoever reads settings follows what they include until a line that cannot be understood: a file with such
    a line is not read at all.
    """
    files = [file]
    for at in files:  # it grows meanwhile
        if len(files) > NAMED_MOST:
            yield f"{file} includes more than {NAMED_MOST} other files"
        yield from _odd(at, SMALL)
        try:
            named = _included(_content(at))
        except ValueError as error:
            yield f"{at} cannot be understood ({error})"
            return
        files += [path for name in named if (path := at.parent / name) not in files]


def _included(settings: bytes) -> list[str]:
    """The files that settings include, on whatever condition. Raises ValueError."""
    parsed = ConfigFile.from_file(io.BytesIO(settings), expand_includes=False)
    sections = [section for section in parsed.sections() if section[0].lower() in (b"include", b"includeif")]
    named = (path for section in sections for path in parsed.get_multivar(section, b"path"))
    return [os.path.expanduser(path.decode("utf-8", "replace")) for path in named]


def _named_in(file: Path, before: bytes) -> Path:
    """The folder that a small file names; the file's own folder when it does not."""
    words = _content(file).rstrip(b"\r\n")
    return file.parent / os.fsdecode(words.removeprefix(before)) if words.startswith(before) else file.parent


def _content(file: Path) -> bytes:
    """What a file begins with, of this size at most; empty when there is none. It waits for no pipe."""
    with contextlib.suppress(OSError, ValueError), open(file, "rb", opener=_at_once) as opened:
        return opened.read(SMALL) or b""
    return b""


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _odd(path: Path | str, most: int = MOST) -> Iterator[str]:
    """A sentence if it cannot be read like a file. It may be missing: git makes and removes locks.

    Old versions of git made HEAD a link to a branch.
    """
    name = os.path.basename(path)
    try:
        found = os.stat(path)
    except ValueError:
        yield f"{path} is no name of a file"
    except OSError:
        branch_without_commit = name == "HEAD" and os.path.islink(path)
        if os.path.lexists(path) and not branch_without_commit:
            yield f"{path} is no plain file"
    else:
        if not stat.S_ISREG(found.st_mode):
            yield f"{path} is no plain file"
        elif found.st_size > most and not name.endswith(".pack"):
            yield f"{path} is too large ({found.st_size:,} bytes, at most {most:,})"

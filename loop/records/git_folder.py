"""Looks for what must not be read in a git folder: pipes, devices and folders in the place of files.

They cannot be committed, but a repository can come as an archive with its `.git`. Whoever reads a pipe waits
for ever, and whoever reads a device or a file of forty gigabytes of zeros fills the memory.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dulwich.config import ConfigFile

from loop.records.shaped_file import read_shaped

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


def odd_file(start: Path) -> Path | None:
    """The first of these files which is no plain file, in the repository that holds `start`; else None."""
    for folder in (start, *start.parents):
        if os.path.lexists(folder / ".git"):
            return next(_odd_files(folder / ".git"), None)
    return None


def _odd_files(git: Path) -> Iterator[Path]:
    """What is odd among the files that are read when the repository is opened, or later."""
    if not git.is_dir():
        if not _is_plain(git, SMALL):
            yield git
        git = _named_in(git, b"gitdir: ")
    for folder in {git, _named_in(git / "commondir", b"")}:
        yield from (path for name in NAMES if not _is_plain(path := folder / name))
        for name in SETTINGS:
            yield from _odd_settings(folder / name)
        for name in FOLDERS:
            yield from _odd_below(folder / name)
        yield from _odd_objects(folder / "objects")


def _odd_below(top: Path) -> Iterator[Path]:
    """What is no plain file below a folder: a link to a folder is none, nor a folder that lies too deep."""
    folders = [(str(top), 0)]
    while folders:
        folder, depth = folders.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:  # it may be gone, or closed to us
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and depth < DEEPEST:
                    folders.append((entry.path, depth + 1))
                elif not _is_plain(entry.path):
                    yield Path(entry.path)


def _odd_objects(objects: Path) -> Iterator[Path]:
    """What is odd in a folder of objects, and in the others that it says objects are in."""
    folders = [objects]
    for folder in folders:  # it grows meanwhile
        alternates = folder / "info/alternates"
        if len(folders) > NAMED_MOST or not _is_plain(alternates, SMALL):
            yield alternates
            return
        yield from _odd_below(folder)
        folders += [folder / os.fsdecode(line) for line in _content(alternates).splitlines()]


def _odd_settings(file: Path) -> Iterator[Path]:
    """A file of settings if it is odd, or what is odd among the files that it includes."""
    files = [file]
    for at in files:  # it grows meanwhile
        if len(files) > NAMED_MOST or not _is_plain(at, SMALL):
            yield at
            return
        with contextlib.suppress(ValueError):  # whoever opens the repository says what is wrong with it
            settings = ConfigFile.from_file(io.BytesIO(_content(at)), expand_includes=False)
            for section in settings.sections():
                if section[0].lower() in (b"include", b"includeif"):
                    named = map(os.fsdecode, settings.get_multivar(section, b"path"))
                    paths = [at.parent / os.path.expanduser(path) for path in named]
                    files += [path for path in paths if path not in files]


def _named_in(file: Path, before: bytes) -> Path:
    """The folder that a small file names; the file's own folder when it does not."""
    words = _content(file).strip()
    return file.parent / os.fsdecode(words.removeprefix(before)) if words.startswith(before) else file.parent


def _content(file: Path) -> bytes:
    """What stands in a small file, or in the one that it is a link to; empty when it is none."""
    return read_shaped(Path(os.path.realpath(file)), SMALL) or b""


def _is_plain(path: Path | str, most: int = MOST) -> bool:
    """Whether it can be read like a file, or is not there: git makes and removes locks beside refs.

    Old versions of git made HEAD a link to a branch.
    """
    name = os.path.basename(path)
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        branch_without_commit = name == "HEAD" and os.path.islink(path)
        return branch_without_commit or not os.path.lexists(path)
    return stat.S_ISREG(found.st_mode) and (found.st_size <= most or name.endswith(".pack"))

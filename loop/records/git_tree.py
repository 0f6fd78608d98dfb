"""Lists the files of a commit, which a stranger may have made.

Git itself never makes a folder with the name `..`, or a file beside a folder of the same name, but an object
with such names can be made and fetched. Whoever writes its files to disk writes wherever they lead. And ten
folders, each of them ten times the same one, and so on, are a few objects and a billion files.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice

from dulwich.errors import ChecksumMismatch, FileFormatException
from dulwich.index import validate_path
from dulwich.objects import TreeEntry
from dulwich.refs import SymrefLoop

from loop.errors import UsageError
from loop.text import one_line

FILES_MOST = 200_000
"""Files and folders that a commit may have: the fence lets a training have as many files."""
FOLDERS_MOST = 100_000
"""Folders among them. To read one takes 70 us here, so that a bomb of them is refused after seven seconds."""
PATH_MOST = 2000
"""Bytes of a path. The slot's own folder stands in front of it, and the system takes 4,096 together."""
NAME_MOST = 255
"""Bytes of a name in it."""
SUBMODULE = 0o160000
BROKEN = (
    ChecksumMismatch, FileFormatException, SymrefLoop, AssertionError, EOFError, ValueError, struct.error,
    zlib.error,
)  # fmt: skip
"""What dulwich raises where a file of git's holds something else than it should."""


def files(entries: Iterable[TreeEntry], *, ignores_case: bool) -> list[tuple[str, int, bytes]]:
    """Path, mode and object id of each file; submodules are left out.

    `entries` are the files and folders of a commit, a folder before what is in it. `ignores_case`: the file
    system that they will be written to does not tell capital letters apart.
    Raises `UsageError` when they cannot be written to a folder, or one of them would lead out of it.
    """
    found, folders, links = list[tuple[str, int, bytes]](), {b""}, dict[str, bytes]()
    for count, entry in enumerate(entries):
        path, mode = entry.path or b"", entry.mode or 0
        if count > FILES_MOST or len(folders) > FOLDERS_MOST:
            raise UsageError(
                f"this commit has more than {FILES_MOST:,} files or {FOLDERS_MOST:,} folders: commit fewer, "
                "data may lie outside the repository"
            )
        if path and not (_can_be_written(path) and path.rpartition(b"/")[0] in folders):
            raise UsageError(f"this commit holds {_shown(path)}, and nothing in a folder can have that path")
        if stat.S_ISDIR(mode):
            folders.add(path)
        elif stat.S_IFMT(mode) != SUBMODULE and entry.sha:
            found.append((os.fsdecode(path), mode, entry.sha))
            if stat.S_ISLNK(mode):
                links[_folded(path, ignores_case)] = path
    for folder in folders if links else ():
        if link := links.get(_folded(folder, ignores_case)):
            raise UsageError(
                f"this commit holds a link {_shown(link)} and a folder {_shown(folder)}, which are one file "
                "here: give one of them another name"
            )
    return found


def submodules(entries: Iterable[TreeEntry]) -> list[str]:
    """The paths of the submodules among the first `FILES_MOST` files of a commit."""
    found = (e.path or b"" for e in islice(entries, FILES_MOST) if stat.S_IFMT(e.mode or 0) == SUBMODULE)
    return [os.fsdecode(path) for path in found]


def _shown(path: bytes) -> str:
    return repr(one_line(path.decode("utf-8", "replace"), 100))


def _can_be_written(path: bytes) -> bool:
    """Whether it leads to a file in the folder, and not into a folder of git's."""
    return (
        len(path) <= PATH_MOST
        and all(len(name) <= NAME_MOST for name in path.split(b"/"))
        and validate_path(path)
    )


def _folded(path: bytes, ignores_case: bool) -> str:
    """What is equal for paths that may be one file. File systems that tell capital letters apart may still
    take an accented letter for the same as a letter and an accent: these are always equal here."""
    apart = unicodedata.normalize("NFD", os.fsdecode(path))
    return apart.casefold() if ignores_case else apart


@contextlib.contextmanager
def understood(name: str, missing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """A `UsageError` for what dulwich raises where an object is not as it should be, and for `missing`."""
    try:
        yield
    except BROKEN + missing as error:
        what = one_line(str(error) or type(error).__name__, 200)
        raise UsageError(f"git's objects of {name[:12]} cannot be read: {what}") from error

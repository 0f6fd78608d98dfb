"""The files of a repository that a command runs, as one hash: whoever agreed to the command agreed to them.

A command such as `sh get.sh` stays the same while get.sh becomes another. Hashed are the files that its
words name, and for a file in a folder all others in that folder, as a script imports what lies beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped

FILE_MOST = 2**24
"""Bytes of a file of the checkout that are hashed; a larger one counts by its size."""
FILES_MOST = 2000
"""Files of a folder of the checkout that are looked at."""
READ = {"uv": ("pyproject.toml", "uv.lock"), "make": ("Makefile",)}
"""Files that programs read unasked. Of the packages that `uv` installs, each may run code of its author."""
_WORD = re.compile(r"[^\s;&|<>()'\"`$=]+")


def hashes(repository: Repository, commit: str, command: Sequence[str], leave_out: str) -> list[str]:
    """A hash of the files that a command names, as they are at the commit and in the checkout: both may be
    run. One hash where they are the same, none where it names no file.

    `leave_out` is the file that agents edit. That one always runs behind the fence.
    """
    at_commit = {path: sha.decode() for path, _, sha in repository.files(commit)}
    committed = _named(command, at_commit) - {leave_out}
    checked_out = _in_checkout(repository.root, command) - {leave_out}
    found = (
        _hash({path: at_commit[path] for path in committed}),
        _hash({path: _id(repository.root / path) for path in checked_out}),
    )
    return list(dict.fromkeys(filter(None, found)))


def _hash(contents: Mapping[str, str]) -> str:
    lines = "".join(f"{path}\0{id}\0" for path, id in sorted(contents.items()))
    return hashlib.sha256(os.fsencode(lines)).hexdigest() if contents else ""


def _words(command: Sequence[str]) -> Iterator[str]:
    """Paths in the repository that may be meant."""
    for word in command:
        for part in _WORD.findall(word):
            path = os.path.normpath(part)
            # The second is for `-m name.of.module`, the third for `$PWD/name`.
            yield from (path, f"{path.replace('.', '/')}.py", path.partition("/")[2])
            yield from READ.get(path, ())


def _named(command: Sequence[str], paths: Collection[str]) -> set[str]:
    """Those of the paths that the command names, with what lies beside them."""
    named = {path for path in _words(command) if path in paths}
    folders = {folder for path in named if (folder := os.path.dirname(path))}
    return named | {path for path in paths if os.path.dirname(path) in folders}


def _in_checkout(root: Path, command: Sequence[str]) -> set[str]:
    """The same for the files that lie in the user's checkout."""
    paths = set[str]()
    for path in _words(command):
        if not os.path.isabs(path) and not path.startswith("..") and os.path.lexists(root / path):
            paths.add(path)
            paths |= set(_beside(root, os.path.dirname(path)))
    return _named(command, {path for path in paths if not (root / path).is_dir()})


def _beside(root: Path, folder: str) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(root / folder) as entries:
        names = sorted(entry.name for _, entry in zip(range(FILES_MOST), entries, strict=False))
        return [os.path.join(folder, name) for name in names if name != "__pycache__"] if folder else []
    return []


def _id(path: Path) -> str:
    """What git calls this content; something else for what is no plain file."""
    content = read_shaped(Path(os.path.realpath(path)), FILE_MOST)
    if content is None:
        with contextlib.suppress(OSError):
            return f"size {path.stat().st_size}"
        return "unreadable"
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

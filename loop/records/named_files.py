"""The files of a repository that a command runs, as one hash: whoever agreed to the command agreed to them.

A command such as `sh get.sh` stays the same while get.sh becomes another. Hashed are the files that its
words name, and for a file in a folder the others in that folder, as a script imports what lies beside it. In
the checkout, data and other things that nobody has committed lie there too: they are left out, because a
command that prepares data writes them itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped

FILE_MOST = 2**24
"""Bytes of a file of the checkout that are hashed; a larger one counts by its size."""
FILES_MOST = 2000
"""Files beside a script that are hashed although nobody has committed them."""
READ = {"uv": ("pyproject.toml", "uv.lock"), "make": ("Makefile",)}
"""Files that these programs read although the command does not name them. They say what is run: a package
that `uv` installs may run code while it is installed."""
CODE = (
    ".py", ".pyc", ".so", ".dylib", ".sh", ".bash", ".zsh", ".mk", ".pl", ".pm", ".rb", ".lua", ".r", ".jl",
    ".js", ".cjs", ".mjs", ".ts",
)  # fmt: skip
"""Ends of names of files that a script beside them can load and run."""
_WORD = re.compile(r"[^\s;&|<>()'\"`$=]+")


def hashes(repository: Repository, commit: str, command: Sequence[str], leave_out: str) -> list[str]:
    """A hash of the files that a command names, as they are at the commit and in the checkout: both may be
    run. One hash where they are the same, none where it names no file.

    `leave_out` is the file that agents edit. That one always runs behind the fence.
    """
    at_commit = {path: sha.decode() for path, _, sha in repository.files(commit)}
    committed = _named(command, at_commit) - {leave_out}
    checked_out = _in_checkout(repository.root, command, at_commit) - {leave_out}
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
    folders = _folders(named)
    return named | {path for path in paths if os.path.dirname(path) in folders}


def _in_checkout(root: Path, command: Sequence[str], at_commit: Collection[str]) -> set[str]:
    """The same for the files that lie in the user's checkout. What lies beside a named file counts there only
    if the commit has it too, or if it is code."""
    words = (path for path in _words(command) if not os.path.isabs(path) and not path.startswith(".."))
    found = {path for path in words if _is_file(root / path)}
    folders = _folders(found)
    found.update(p for p in at_commit if os.path.dirname(p) in folders and _is_file(root / p))
    for folder in folders:
        found.update(_code_in(root, folder))
    return found


def _is_file(path: Path) -> bool:
    """Whether something lies there that is no folder: a broken link counts, too."""
    return os.path.lexists(path) and not os.path.isdir(path)


def _folders(paths: Iterable[str]) -> set[str]:
    """The folders that the files lie in. The top of the repository is none: most of what lies there has
    nothing to do with the command."""
    return {os.path.dirname(path) for path in paths} - {""}


def _code_in(root: Path, folder: str) -> Iterator[str]:
    """Files of a folder below `root` that can be run, or loaded by what runs."""
    with contextlib.suppress(OSError), os.scandir(root / folder) as entries:
        code = (os.path.join(folder, entry.name) for entry in entries if _is_code(entry))
        yield from itertools.islice(code, FILES_MOST)


def _is_code(file: os.DirEntry[str]) -> bool:
    """Whether a script can run or load it: by its name, or because it has no ending and may be run."""
    if file.name.startswith(".#") or os.path.isdir(file.path):  # the first is a lock of Emacs
        return False
    end = os.path.splitext(file.name)[1].lower()
    is_named_so = end in CODE or any(file.name in names for names in READ.values())
    return is_named_so or (not end and os.access(file.path, os.X_OK))


def _id(path: Path) -> str:
    """What git calls this content; something else for what is no plain file."""
    content = read_shaped(Path(os.path.realpath(path)), FILE_MOST)
    if content is None:
        with contextlib.suppress(OSError):
            return f"size {path.stat().st_size}"
        return "unreadable"
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

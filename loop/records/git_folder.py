"""Looks for what must not be read in a git folder: pipes, devices and folders in the place of files.

They cannot be committed, but a repository can come as an archive with its `.git`. Whoever reads a pipe waits
for ever, and whoever reads a device fills the memory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from loop.records.shaped_file import read_shaped

NAMES = ("HEAD", "config", "packed-refs", "commondir", "shallow", "index", "info/grafts", "info/exclude",
         "objects/info/alternates")  # fmt: skip
"""Files that are read whenever a repository is opened."""
MOST = 2**30
"""Bytes that one of them may have: `packed-refs` and `index` can be long."""


def odd_file(start: Path) -> Path | None:
    """The first of these files which is no plain file, in the repository that holds `start`; else None."""
    for folder in (start, *start.parents):
        if os.path.lexists(folder / ".git"):
            return next((path for path in _read_at_once(folder / ".git") if not _is_plain(path)), None)
    return None


def _read_at_once(git: Path) -> Iterator[Path]:
    """The files that opening the repository reads, and its refs."""
    if not git.is_dir():
        yield git
        git = _named_in(git, b"gitdir: ")
    for folder in {git, _named_in(git / "commondir", b"")}:
        yield from (folder / name for name in NAMES if os.path.lexists(folder / name))
        for above, _, names in os.walk(folder / "refs"):
            yield from (Path(above, name) for name in names)


def _named_in(file: Path, before: bytes) -> Path:
    """The folder that a small file names; the file's own folder when it does not."""
    words = (read_shaped(file, 4096) or b"").strip()
    return file.parent / os.fsdecode(words.removeprefix(before)) if words.startswith(before) else file.parent


def _is_plain(path: Path) -> bool:
    """Whether it can be read like a file, or has gone meanwhile: git makes and removes locks beside refs.

    Old versions of git made HEAD a link to a branch.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        branch_without_commit = path.name == "HEAD" and path.is_symlink()
        return branch_without_commit or not os.path.lexists(path)
    return stat.S_ISREG(found.st_mode) and found.st_size <= MOST

"""Slots: folders where commits are exported to be trained. The user's own checkout is never touched."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from pathlib import Path

from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped
from loop.training.programs.leftovers import remove

Signature = tuple[int, ...]
"""Size, inode number, times and others of a file: when its content changes, so does one of these."""
SETTLED_NS = 1_000_000_000
"""A file changed less than a second ago may change again with equal times, so it is not cached."""


class Slot:
    """The folder of one slot. A file that was checked is read again only when its inode has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spare = folder.with_name(f"{folder.name}.next")
        """The folder of the next training, made while this one runs, where no training can reach it."""
        self._checked: dict[str, tuple[Signature, int, bytes]] = {}
        """For each checked path: its signature at that time, and the mode and blob id that it had."""

    def renew(self) -> None:
        """Move the folder away, with all that a training has left in it, and put the spare one in its place.

        Whatever is wrong with the old folder, the next training never meets it. `left` names what is to be
        removed. Raises OSError.
        """
        with contextlib.suppress(FileNotFoundError):
            self.folder.rename(self.folder.with_name(f"{self.folder.name}.old-{secrets.token_hex(4)}"))
        with contextlib.suppress(FileNotFoundError):
            self.spare.rename(self.folder)

    def left(self) -> list[str]:
        """The folders that `renew` moved away and that are still there."""
        return sorted(str(path) for path in self.folder.parent.glob(f"{self.folder.name}.old-*"))

    def prepare(self, repository: Repository, commit: str) -> None:
        """Make the spare folder the tree of `commit`: most of it will be the next training's too."""
        self._fill(self.spare, repository, commit)

    def export(self, repository: Repository, commit: str) -> None:
        """Make the folder exactly the tree of `commit`: each file checked by blob id, the rest removed."""
        self._fill(self.folder, repository, commit)

    def _fill(self, folder: Path, repository: Repository, commit: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {path: (mode, sha) for path, mode, sha in repository.files(commit)}
        folders = {parent for path in wanted for parent in _parents(path)}
        _sweep(folder, "", set(wanted), folders)
        for path, (mode, sha) in wanted.items():
            if not self._same(folder, path, mode, sha, repository):
                _write(folder / path, mode, repository.blob(sha))
                self._same(folder, path, mode, sha, repository)

    def changed(self, repository: Repository, commit: str, editable: str) -> list[str]:
        """Files of `commit`, other than the editable one, that the training has changed or removed."""
        return [
            path
            for path, mode, sha in repository.files(commit)
            if path != editable and not self._same(self.folder, path, mode, sha, repository)
        ]

    def _same(self, folder: Path, path: str, mode: int, sha: bytes, repository: Repository) -> bool:
        """The file has the mode and content that git says.

        If its signature is that of an earlier check, it is not read: no program can change a file's content
        and keep its change time.
        """
        file = folder / path
        try:
            found = file.lstat()
        except OSError:
            return False
        signature = (found.st_mode, found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        if found.st_nlink == 1 and self._checked.get(path) == (signature, mode, sha):
            return True
        if not _same(file, mode, repository.blob(sha)):
            return False
        if time.time_ns() - found.st_ctime_ns > SETTLED_NS:
            self._checked[path] = (signature, mode, sha)
        return True


def inventory(folders: list[Path]) -> dict[str, Signature]:
    """The signature of every file below these folders, by path."""
    found: dict[str, Signature] = {}
    for folder in folders:
        for root, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(root, name)
                with contextlib.suppress(OSError):
                    at = os.lstat(path)
                    found[path] = (at.st_size, at.st_ino, at.st_mtime_ns, at.st_ctime_ns)
    return found


def _parents(path: str) -> list[str]:
    """`a` and `a/b` for `a/b/c`."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _sweep(folder: Path, prefix: str, files: set[str], folders: set[str]) -> None:
    """Remove what is neither in `files` nor in `folders`, which are paths that begin with `prefix`."""
    folder.chmod(0o755)
    with os.scandir(folder) as entries:
        for entry in list(entries):
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if name in folders:
                    _sweep(Path(entry.path), name + "/", files, folders)
                else:
                    remove(Path(entry.path))
            elif name not in files:
                os.unlink(entry.path)


def _same(path: Path, mode: int, content: bytes) -> bool:
    """The file has this mode and content. One with a second name does not count: it can be changed there."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(mode) or found.st_nlink > 1:
        return False
    if stat.S_ISREG(mode) and bool(found.st_mode & 0o100) != bool(mode & 0o100):
        return False
    if stat.S_ISLNK(mode):
        return os.readlink(os.fsencode(path)) == content
    return read_shaped(path, len(content)) == content


def _write(path: Path, mode: int, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if stat.S_ISLNK(mode):
        path.symlink_to(data.decode("utf-8", "surrogateescape"))
        return
    path.write_bytes(data)
    path.chmod(0o755 if mode & 0o100 else 0o644)

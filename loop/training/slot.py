"""Slots: exported trees where training runs. A slot is ours; the user's checkout is never touched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import time
from pathlib import Path

from loop.records.repository import Repository

Signature = tuple[int, ...]
SETTLED_NS = 1_000_000_000
"""An inode's times move in steps of some milliseconds: one that is younger may change unseen."""


class Slot:
    """One folder of ours. What was checked once is read again only when its inode says that it changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._checked: dict[str, tuple[Signature, int, bytes]] = {}
        """Of each checked path: how its inode looked then, and the mode and blob id it was found to have."""

    def export(self, repository: Repository, commit: str) -> None:
        """Make the folder exactly the tree of `commit`: each file checked by blob id, the rest removed.

        What a trainer left there (checkpoints, caches, links, changed files) is gone afterwards.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = {path: (mode, sha) for path, mode, sha in repository.files(commit)}
        folders = {parent for path in wanted for parent in _parents(path)}
        _sweep(self.folder, "", set(wanted), folders)
        for path, (mode, sha) in wanted.items():
            if not self._same(path, mode, sha):
                _write(self.folder / path, mode, repository.blob(sha))
                self._same(path, mode, sha)

    def changed(self, repository: Repository, commit: str, editable: str) -> list[str]:
        """Files that are not what `commit` says, the editable one aside: the run meddled with them."""
        return [
            path
            for path, mode, sha in repository.files(commit)
            if path != editable and not self._same(path, mode, sha)
        ]

    def _same(self, path: str, mode: int, sha: bytes) -> bool:
        """The file is what git says. A change of its content cannot leave its inode's change time alone."""
        file = self.folder / path
        try:
            found = file.lstat()
        except OSError:
            return False
        signature = (found.st_mode, found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        if found.st_nlink == 1 and self._checked.get(path) == (signature, mode, sha):
            return True
        if not _same(file, mode, sha):
            return False
        if time.time_ns() - found.st_ctime_ns > SETTLED_NS:
            self._checked[path] = (signature, mode, sha)
        return True


def inventory(folders: list[Path]) -> dict[str, Signature]:
    """Every file below these folders, and how its inode looks."""
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
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _sweep(folder: Path, prefix: str, files: set[str], folders: set[str]) -> None:
    folder.chmod(0o755)
    with os.scandir(folder) as entries:
        for entry in list(entries):
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if name in folders:
                    _sweep(Path(entry.path), name + "/", files, folders)
                else:
                    shutil.rmtree(entry.path)
            elif name not in files:
                os.unlink(entry.path)


def _same(path: Path, mode: int, sha: bytes) -> bool:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(mode) or found.st_nlink > 1:
        return False
    if stat.S_ISREG(mode) and bool(found.st_mode & 0o100) != bool(mode & 0o100):
        return False
    data = os.readlink(path).encode() if stat.S_ISLNK(mode) else path.read_bytes()
    return blob_id(data) == sha


def blob_id(data: bytes) -> bytes:
    """git's name for this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest().encode()


def _write(path: Path, mode: int, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if stat.S_ISLNK(mode):
        path.symlink_to(data.decode("utf-8", "surrogateescape"))
        return
    path.write_bytes(data)
    path.chmod(0o755 if mode & 0o100 else 0o644)

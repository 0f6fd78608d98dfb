"""Slots: exported trees where training runs. A slot is ours; the user's checkout is never touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from loop.repository import Repository


def export(repository: Repository, commit: str, slot: Path) -> None:
    """Make `slot` exactly the tree of `commit`: each file checked by blob id, everything else removed.

    What a trainer left there (checkpoints, caches, links, changed files) is gone afterwards.
    """
    slot.mkdir(parents=True, exist_ok=True)
    wanted = {path: (mode, sha) for path, mode, sha in repository.files(commit)}
    folders = {parent for path in wanted for parent in _parents(path)}
    _sweep(slot, "", set(wanted), folders)
    for path, (mode, sha) in wanted.items():
        target = slot / path
        if not _same(target, mode, sha):
            _write(target, mode, repository.blob(sha))


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

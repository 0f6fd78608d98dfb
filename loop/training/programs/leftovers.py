"""Removes what a training leaves: its folders, and its files in shared memory. Standard library only."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import threading
from pathlib import Path

SHARED = "/dev/shm"
"""Files that are in memory and in no folder of any program."""


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, or what else stands there, if it exists. Raises OSError.

    A trainer can leave folders whose mode lets nobody list or empty them, or thousands of folders in each
    other, where `shutil.rmtree` exceeds Python's recursion limit. So each folder is opened to its owner, and
    the folders in it are moved up before it is removed.
    """
    if folder.is_symlink() or not folder.is_dir():
        if os.path.lexists(folder):
            folder.unlink()
        return
    folder.chmod(0o700)
    while found := list(folder.iterdir()):
        for path in found:
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
                continue
            path.chmod(0o700)
            for inner in list(path.iterdir()):
                if inner.is_symlink() or not inner.is_dir():
                    inner.unlink(missing_ok=True)
                else:
                    inner.chmod(0o700)  # a folder that cannot be written to cannot be moved
                    inner.rename(folder / secrets.token_hex(8))
            path.rmdir()
    folder.rmdir()


def leave_only(files: list[str]) -> None:
    """Remove all that lies beside these files, and them too where they are no plain ones.

    What a candidate leaves beside its model would stay for ever, and fill the disk in a night.
    """
    for folder in {os.path.dirname(file) for file in files}:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in list(entries):
                if entry.path not in files or not entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        remove(Path(entry.path))


def discard(folders: list[str]) -> None:
    """Remove these folders in the background, with what is left of this machine's time.

    A folder that cannot be removed stays; so does what is not removed when this process ends.
    """

    def work() -> None:
        with contextlib.suppress(OSError, AttributeError):  # on Linux a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        for folder in folders:
            with contextlib.suppress(OSError):
                remove(Path(folder))

    if folders:
        threading.Thread(target=work, daemon=True).start()


def open_folder(name: str, above: int | None = None) -> int:
    """Open a folder, of a path or of a name in the opened folder `above`, to list and to enter it.

    One whose owner may not look into it is opened to its owner first. It is no link. Raises OSError.
    """
    if not hasattr(os, "O_PATH"):
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        found = os.fstat(place)
        if found.st_mode & 0o500 != 0o500 and found.st_uid == os.geteuid():
            os.chmod(f"/proc/self/fd/{place}", 0o700)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)


def shared() -> set[tuple[str, int]]:
    """Path and inode number of each file of this user in shared memory."""
    found = set()
    with contextlib.suppress(OSError), os.scandir(SHARED) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                at = entry.stat(follow_symlinks=False)
                if at.st_uid == os.getuid():
                    found.add((entry.path, at.st_ino))
    return found


def forget(before: set[tuple[str, int]]) -> None:
    """Remove the files in shared memory that were not there before and that no living process uses.

    For a training that had to share it with all other programs. They go on: what they use stays.
    """
    appeared = shared() - before
    used = _in_use() if appeared else set()
    for path, inode in appeared:
        with contextlib.suppress(OSError):
            if Path(path).is_dir() and not Path(path).is_symlink():
                remove(Path(path))
            elif inode not in used:
                os.unlink(path)


def _in_use() -> set[int]:
    """Inode numbers of the files in shared memory that a process has opened or mapped."""
    found = set()
    for maps in glob.glob("/proc/[0-9]*/maps"):
        with contextlib.suppress(OSError), open(maps, errors="replace") as file:
            found |= {int(line.split()[4]) for line in file if SHARED in line}
    for opened in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(opened).startswith(SHARED):
                found.add(os.stat(opened).st_ino)
    return found

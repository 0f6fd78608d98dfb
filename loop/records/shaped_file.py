"""Reads files that a candidate's code can shape: its result, its model, the files of its slot.

In the place of such a file may stand anything: a pipe that nobody writes to, a device that never ends, a link
to a file of somebody else, forty gigabytes of zeros. None of these may stop, fill or mislead the engine.
Neither the file nor the folder it lies in is followed if it is a link, and opening it never waits.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def read_shaped(path: Path, most: int) -> bytes | None:
    """The content of a regular file of at most `most` bytes; None for everything else."""
    with contextlib.suppress(OSError), _opened(path, most) as file:
        if file is None:
            return None
        size = os.fstat(file.fileno()).st_size  # Python makes room for all that is asked for before it reads
        content = file.read(size + 1)
        if len(content) > size:  # it grows just now
            content += file.read(most + 1 - len(content))
        return content if len(content) <= most else None
    return None


def end_of_shaped(path: Path, size: int) -> bytes:
    """The last `size` bytes of a regular file, however large it is; empty for everything else."""
    with contextlib.suppress(OSError), _opened(path, sys.maxsize) as file:
        if file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size)
    return b""


def size_of_shaped(path: Path, most: int) -> int | None:
    """The size of a regular file of at most `most` bytes; None for everything else."""
    with contextlib.suppress(OSError), _opened(path, most) as file:
        return os.fstat(file.fileno()).st_size if file else None
    return None


def copy_shaped(path: Path, most: int, copy: Path) -> bool:
    """Copy a regular file of at most `most` bytes; False for everything else.

    Raises OSError when the copy cannot be written.
    """
    with _opened(path, most) as file:
        if file is None:
            return False
        with copy.open("wb") as target:
            shutil.copyfileobj(file, target, 2**20)
    return True


def remove_shaped(path: Path) -> None:
    """Delete what stands there, but for a folder. A failure is passed over."""
    with contextlib.suppress(OSError), _folder(path) as folder:
        os.unlink(path.name, dir_fd=folder)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    """The folder that the file lies in, opened. Raises OSError."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def _opened(path: Path, most: int) -> Iterator[BinaryIO | None]:
    """A regular file of at most `most` bytes, opened; None for everything else."""
    descriptor = -1
    with contextlib.suppress(OSError), _folder(path) as folder:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(path.name, flags, dir_fd=folder)
    if descriptor < 0:
        yield None
        return
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_size <= most:
            with open(descriptor, "rb", closefd=False) as file:
                yield file
        else:
            yield None
    finally:
        os.close(descriptor)

"""Reads files that a candidate's code can shape: its result, the files of its slot.

In the place of such a file may stand anything: a pipe that nobody writes to, a device that never ends, a link
to a file of somebody else, forty gigabytes of zeros. None of these may stop, fill or mislead the engine.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path


def read_shaped(path: Path, most: int) -> bytes | None:
    """The content of a regular file of at most `most` bytes; None for everything else.

    Neither the file nor the folder it lies in is followed if it is a link, and opening it never waits.
    """
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            file = os.open(path.name, flags, dir_fd=folder)
        finally:
            os.close(folder)
        with os.fdopen(file, "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > most:
                return None
            content = opened.read(most + 1)
            return content if len(content) <= most else None  # it may grow while it is read
    return None

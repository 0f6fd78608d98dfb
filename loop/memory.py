"""Keeps the memory of a process small that runs for months, where the C library is glibc.

Reading the notes of thousands of commits or a long results.tsv takes some megabytes for a moment, in several
threads. glibc has a heap for each thread, and keeps in it what lies below something small that is still used:
after thirty days that was a fifth of an engine's memory.
"""

from __future__ import annotations

import ctypes
import sys

M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1
"""Settings of `mallopt(3)`: how many heaps there may be, from which size on a block comes from the system and
goes back there, and how much may be free at a heap's end."""
LARGE = 128 * 1024
"""The sizes with which both begin. Unless they are set, each large block that is freed raises them."""

_libc = ctypes.CDLL(None)
_is_glibc = sys.platform == "linux" and hasattr(_libc, "malloc_trim")


def one_heap() -> None:
    """Let all threads share one heap, and take large blocks from the system, not from it.

    Call it before there are threads: one that has a heap of its own keeps it.
    """
    if _is_glibc:
        for setting, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, LARGE)):
            _libc.mallopt(setting, value)


def give_back() -> None:
    """Give what is free back to the system; takes a few milliseconds."""
    if _is_glibc:
        _libc.malloc_trim(0)

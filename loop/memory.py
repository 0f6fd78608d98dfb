"""Keeps the memory of a process small that runs for months, where the C library is glibc.

Reading the notes of thousands of commits or a long results.tsv takes some megabytes for a moment, in several
threads. glibc has a heap for each thread, and keeps in it what lies below something small that is still used:
after thirty days that was a fifth of an engine's memory.
"""

from __future__ import annotations

import ctypes
import sys

M_ARENA_MAX = -8
"""The setting of `mallopt(3)` that says how many heaps there may be."""

_libc = ctypes.CDLL(None)
_is_glibc = sys.platform == "linux" and hasattr(_libc, "malloc_trim")


def one_heap() -> None:
    """From now on all threads share one heap. Call it before there are any."""
    if _is_glibc:
        _libc.mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Give what is free back to the system; takes a few milliseconds."""
    if _is_glibc:
        _libc.malloc_trim(0)

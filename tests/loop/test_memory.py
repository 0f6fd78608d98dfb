"""What malloc holds and nobody uses goes back to the system, and threads share one heap."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import psutil
import pytest

from loop import memory

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps free memory"
)

BLOCK = 4096
"""Bytes that malloc takes from its heap, not from the system one by one."""


def test_free_memory_is_given_back() -> None:
    blocks = [bytes(BLOCK) for _ in range(20_000)]
    last = blocks[-1]  # lies above all others, so that malloc does not give them back by itself
    before = psutil.Process().memory_info().rss
    del blocks
    memory.give_back()
    assert before - psutil.Process().memory_info().rss > 10_000 * BLOCK
    assert last == bytes(BLOCK)


THREADS = """
import sys, threading
from loop import memory

if sys.argv[1] == "one":
    memory.one_heap()
kept = []
threads = [threading.Thread(target=lambda: kept.append(bytes(100_000))) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
memory._libc.malloc_stats()
"""


@pytest.mark.parametrize(("heaps", "several"), [("one", False), ("many", True)])
def test_threads_share_one_heap(heaps: str, several: bool) -> None:
    words = [sys.executable, "-c", THREADS, heaps]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    assert "Arena 0:" in said
    assert ("Arena 1:" in said) == several

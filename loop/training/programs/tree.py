"""The processes below this one: counts them, measures what they use, waits for them, and ends them all.

For a supervisor, which is a subreaper (prctl(2)): the kernel makes it the parent of all processes below it
whose own parent has died. So every process that a trainer starts stays below it, also one that called setsid.
Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
GRACE_S = 2.0
"""Seconds between asking processes to end (SIGTERM) and killing them (SIGKILL)."""
MANY_FILES = 200_000
"""A trainer that writes more files than this is ended."""
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
"""Bytes in a page of memory."""


def adopt() -> None:
    """Become the parent of every process below this one whose own parent dies."""
    if LIBC:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies. A program that it becomes later keeps that."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def ticks(pid: int) -> int:
    """When a process was started, in clock ticks since the machine started; 0 when it is not known.

    A pid is given to another process after a while; together with this number it is unique.
    """
    with contextlib.suppress(OSError):
        return int(_stat(pid)[19])
    return 0


def _stat(pid: int | str) -> list[str]:
    """What `/proc/<pid>/stat` says after the program's name (proc(5)). Raises OSError."""
    return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()


def too_much(limits: dict[str, Any], used: dict[tuple[int, int], float]) -> str:
    """The limit that all processes below this one together exceed, in words; empty when there is none.

    `limits` is a `loop.records.training_folder.Spec`. `used` notes what `processor_seconds` finds on the way.
    """
    pids = descendants(os.getpid())
    used |= processor_seconds(pids)
    if len(pids) > limits["processes"]:
        return f"started {len(pids)} processes, limit {limits['processes']}"
    memory = float(limits["memory_gb"]) * 2**30
    if memory and resident(pids) > memory and (size := resident(pids, exact=True)) > memory:
        return f"used {size / 2**30:.1f} GB of memory, limit {memory / 2**30:.1f} GB"
    disk = float(limits["disk_gb"]) * 2**30
    written, files = on_disk(limits["folders"]) if disk else (0, 0)
    if files > MANY_FILES:
        return f"wrote more than {MANY_FILES:,} files"
    return f"wrote {written / 2**30:.1f} GB of files, limit {disk / 2**30:.1f} GB" if written > disk else ""


def end_of(*pids: int) -> Callable[[float], bool]:
    """Make a function that waits so many seconds for the first of these children to end; it says whether one
    has. None of them may have been waited for."""
    if not hasattr(os, "pidfd_open"):

        def wait(seconds: float) -> bool:
            patience = time.monotonic() + seconds
            while True:
                if any(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) for pid in pids):
                    return True
                if time.monotonic() > patience:
                    return False
                time.sleep(0.01)

        return wait
    poll = select.poll()
    for pid in pids:
        poll.register(os.pidfd_open(pid), select.POLLIN)
    return lambda seconds: bool(poll.poll(seconds * 1000))


def describe(code: int) -> str:
    """An exit code in words: negative ones are signals."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def descendants(root: int) -> list[int]:
    """Every process below `root`: its children, their children, and so on."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents.setdefault(int(_stat(entry)[1]), []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def resident(pids: list[int], exact: bool = False) -> float:
    """Bytes of memory that these processes use.

    What several of them share is counted for each of them; with `exact`, which is slow, only once.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            if exact:
                lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
            else:
                total += int(Path("/proc", str(pid), "statm").read_text().split()[1]) * PAGE
    return total


def processor_seconds(pids: list[int]) -> dict[tuple[int, int], float]:
    """Processor time that each of these processes has used, by its pid and start time (`ticks`).

    Without the time of its children, and of those that have ended.
    """
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            said = _stat(pid)
            found[pid, int(said[19])] = (int(said[11]) + int(said[12])) / TICKS_A_SECOND
    return found


def on_disk(folders: list[str], files: int = MANY_FILES) -> tuple[float, int]:
    """Bytes and number of the files below these folders; stops when there are more than `files`."""
    used, count, waiting = 0, 0, list(folders)
    while waiting and count <= files:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    count += 1
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return used, count


def end_all(asked: int = 0) -> tuple[dict[int, int], int]:
    """End every process below this one; ask the process group `asked` first, and kill the rest after a while.

    As a subreaper, this process is an ancestor of all of them, so they have all ended when it has no children
    any more. Reading /proc alone would not do: it misses a process whose parent dies in that moment.

    Returns the exit codes of the children that ended only now, by pid, and how many processes were killed.
    """
    codes, killed = dict[int, int](), set[int]()
    if asked:
        with contextlib.suppress(OSError):
            os.killpg(asked, signal.SIGTERM)
    patience = time.monotonic() + (GRACE_S if asked else 0.0)
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return codes, len(killed)
        if pid:
            codes[pid] = os.waitstatus_to_exitcode(status)
            continue
        if time.monotonic() > patience:
            for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, they cannot make new ones
                for process in descendants(os.getpid()):
                    with contextlib.suppress(OSError):
                        os.kill(process, number)
                        killed.add(process)
        time.sleep(0.01)

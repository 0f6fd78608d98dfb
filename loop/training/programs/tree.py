"""The processes below this one: finds them, waits for them, and ends them all.

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
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
GRACE_S = 2.0
"""Seconds between asking processes to end (SIGTERM) and killing them (SIGKILL)."""
LEAVE_S = 0.5
"""The same for those that a trainer leaves behind when it has ended by itself: in that time they could go on
training, which nobody counts. Helpers of Python's multiprocessing end a moment after it."""
GIVE_UP_S = 60.0
"""A killed process that has not ended after so many seconds hangs in the kernel, as in a driver that waits
for its GPU. Nobody can end it, and whoever waited for that would wait for ever."""


_hanging: set[int] = set()
"""Those below this process that `end_all` no longer waits for, as they hang in the kernel."""


class Ended(NamedTuple):
    """What became of processes that were to end."""

    codes: dict[int, int]
    """Exit codes of the children that ended only now, by pid."""
    killed: int
    """How many processes were killed."""
    stuck: list[int]
    """Those that did not end by that."""


def adopt() -> None:
    """Become the parent of every process below this one whose own parent dies."""
    if LIBC:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies. A program that it becomes later keeps that."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def die_before_others() -> None:
    """Let the kernel end this process, and what it starts, before any other when there is no memory left."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def ticks(pid: int) -> int:
    """When a process was started, in clock ticks since the machine started; 0 when it is not known.

    A pid is given to another process after a while; together with this number it is unique.
    """
    with contextlib.suppress(OSError):
        return int(status(pid)[19])
    return 0


def status(pid: int | str) -> list[str]:
    """What `/proc/<pid>/stat` says after the program's name (proc(5)). Raises OSError.

    A program can give itself any name, also one that is no text: it must not hide by that.
    """
    return Path("/proc", str(pid), "stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def folder(pid: int | str) -> str:
    """The folder in /proc that tells what a process holds.

    When its first thread has ended and others go on, `/proc/<pid>` tells of no memory and no files: then it
    is that of one of the others.
    """
    own = f"/proc/{pid}"
    with contextlib.suppress(OSError, IndexError):
        if status(pid)[0] == "Z":
            for thread in os.listdir(f"{own}/task"):
                with contextlib.suppress(OSError, IndexError):
                    if status(f"{pid}/task/{thread}")[0] != "Z":
                        return f"{own}/task/{thread}"
    return own


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
                parents.setdefault(int(status(entry)[1]), []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def end_all(asked: int = 0, end_more: Callable[[], set[int]] = set, patience_s: float = GRACE_S) -> Ended:
    """End every process below this one; ask the process group `asked` first, and kill the rest so much later.

    `end_more` kills, and tells, what may not be found from here (`group.Group.end`).

    As a subreaper, this process is an ancestor of all of them, so they have all ended when it has no children
    any more. Reading /proc alone would not do: it misses a process whose parent dies in that moment. After
    `GIVE_UP_S` it no longer waits. Where only such are left that it has given up before, `LEAVE_S` is enough.
    """
    codes, killed = dict[int, int](), set[int]()
    if asked:
        with contextlib.suppress(OSError):
            os.killpg(asked, signal.SIGTERM)
    patience = time.monotonic() + (patience_s if asked else 0.0)
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return Ended(codes, len(killed), [])
        if pid:
            codes[pid] = os.waitstatus_to_exitcode(status)
            _hanging.discard(pid)
            continue
        if time.monotonic() > patience:
            killed |= end_more()
            for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, they cannot make new ones
                for process in descendants(os.getpid()):
                    with contextlib.suppress(OSError):
                        os.kill(process, number)
                        killed.add(process)
        if time.monotonic() > patience + (LEAVE_S if _hanging else GIVE_UP_S):
            left = set(descendants(os.getpid()))
            if left <= _hanging or time.monotonic() > patience + GIVE_UP_S:
                _hanging.update(left)
                return Ended(codes, len(killed), sorted(left))
        time.sleep(0.01)

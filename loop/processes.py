"""Whether a process is alive. Its id alone does not tell: the system later gives it to another process."""

from __future__ import annotations

import psutil

from loop.training.programs.tree import ticks


def alive(pid: int, started: int | None = None) -> bool:
    """Whether this process runs. A zombie does not: it has ended, and only its exit code is left.

    With `started`, from `start_ticks`, another process that got the same id later does not count.
    """
    try:
        zombie = psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return not zombie and started in (None, start_ticks(pid))


def start_ticks(pid: int) -> int:
    """When a process was started, in clock ticks since boot (`man 5 proc`); 0 when there is none."""
    return ticks(pid)

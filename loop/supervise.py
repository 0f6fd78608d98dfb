"""The process between the engine and a trainer. Standard library only: it starts in milliseconds.

    python -I -S loop/supervise.py SPEC.json

It starts the command in a session of its own, waits, and writes `exit.json`, so that a result is not lost
when the engine dies first. It enforces the time-out and the memory limit itself for the same reason, and on
SIGTERM, time-out or the trainer's end it kills every process the trainer left, also those that called
setsid: as a subreaper it is the parent of all orphans below it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
POLL_S = 0.1
MEMORY_S = 1.0
"""How often memory is measured: it takes a walk over all of /proc."""
GRACE_S = 2.0
PAGE = os.sysconf("SC_PAGE_SIZE")


def main(spec_path: str) -> int:
    """Run the command of the specification file; see `loop.trainer.Spec` for its fields."""
    spec: dict[str, Any] = json.loads(Path(spec_path).read_text())
    write(Path(spec["supervisor"]), {"pid": os.getpid(), "ticks": ticks(os.getpid())})
    if LIBC:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _frame: stopped.append(n))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    started = time.time()
    with open(spec["log"], "ab", buffering=0) as log:
        try:
            child = start(spec, log.fileno())
        except OSError as error:
            finish(spec, started, 127, "crashed", f"cannot start {spec['command'][0]}: {error.strerror}")
            return 0
        outcome, reason = watch(child, spec, log.fileno(), stopped)
        code = end_tree(child.pid)
        if os.fstat(log.fileno()).st_size > spec["log_bytes"]:
            os.ftruncate(log.fileno(), spec["log_bytes"])
    finish(spec, started, child.wait() if code is None else code, outcome, reason)
    return 0


def start(spec: dict[str, Any], log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        spec["command"],
        cwd=spec["cwd"],
        env=spec["env"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def die_with_parent() -> None:
    """In the child: a trainer must not outlive a supervisor that was killed."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def ticks(pid: int) -> int:
    """When a process was started, in clock ticks since boot: with the pid, its identity. 0 off Linux."""
    with contextlib.suppress(OSError):
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[19])
    return 0


def watch(
    child: subprocess.Popen[bytes], spec: dict[str, Any], log: int, stopped: list[int]
) -> tuple[str, str]:
    """Wait for the end; returns the outcome and its reason."""
    deadline = time.monotonic() + float(spec["timeout_s"])
    limit, measured = float(spec["memory_gb"]) * 2**30, time.monotonic()
    ended = end_of(child)
    while not ended(POLL_S):
        now = time.monotonic()
        if stopped:
            return "stopped", "stopped by the engine"
        if now > deadline:
            return "timeout", f"still running after {float(spec['timeout_s']):g} s"
        if os.fstat(log).st_size > spec["log_bytes"]:
            return "crashed", f"printed more than {spec['log_bytes'] / 2**20:g} MB"
        if limit and now > measured + MEMORY_S:
            measured = now
            if (used := tree_memory(child.pid)) > limit:
                return "crashed", f"used {used / 2**30:.1f} GB of memory, limit {limit / 2**30:.1f} GB"
    code = child.wait()
    return ("finished", "") if code == 0 else ("crashed", describe(code))


def end_of(child: subprocess.Popen[bytes]) -> Callable[[float], bool]:
    """A function that waits so many seconds for the child's end: true as soon as it is there."""
    if not hasattr(os, "pidfd_open"):

        def wait(seconds: float) -> bool:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(seconds)
            return child.returncode is not None

        return wait
    poll = select.poll()
    poll.register(os.pidfd_open(child.pid), select.POLLIN)
    return lambda seconds: bool(poll.poll(seconds * 1000))


def describe(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def descendants(root: int) -> list[int]:
    """Every process below this one: the trainer's tree and orphans that came to us as the subreaper."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                after_name = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(after_name[1]), []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def tree_memory(pid: int) -> float:
    """Resident bytes of the trainer and everything below it; shared pages are counted once per process."""
    total = 0
    for process in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += int(Path("/proc", str(process), "statm").read_text().split()[1]) * PAGE
    return total


def end_tree(trainer: int) -> int | None:
    """Ask the trainer's process group to end, then kill whatever is left below us, however it hid.

    As the subreaper we are an ancestor of all of it: it is over when we have no children. A walk over /proc
    alone would not tell, as it misses a process whose parent dies meanwhile. Returns the trainer's exit code
    if it ended only now.
    """
    code = None
    with contextlib.suppress(OSError):
        os.killpg(trainer, signal.SIGTERM)
    patience = time.monotonic() + GRACE_S
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == trainer:
            code = os.waitstatus_to_exitcode(status)
        if pid:
            continue
        if time.monotonic() > patience:
            for process in descendants(os.getpid()):
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def finish(spec: dict[str, Any], started: float, code: int, outcome: str, reason: str) -> None:
    """Write exit.json, whole or not at all."""
    report = {
        "outcome": outcome,
        "reason": reason,
        "exit_code": code,
        "started": started,
        "ended": time.time(),
    }
    write(Path(spec["exit"]), report)


def write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""The process between the engine and a trainer. Standard library only: it starts in milliseconds.

    echo NONCE SPEC.json | python -I -S loop/supervise.py

It waits for that line, so that the next run's supervisor can be up before it is needed. Then it starts the
command in a session of its own, waits, and writes `exit.json`, so that a result is not lost when the engine
dies first. It enforces the time-out and the limits itself for the same reason, and on SIGTERM, time-out or
the trainer's end it kills every process the trainer left, also those that called setsid: as a subreaper it is
the parent of all orphans below it. The trainer lives behind the fence of `sandbox.py`; this process does not,
so nothing in there can end or change it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NONCE = "AUTORESEARCH_NONCE"
"""Proves a result; it comes to us by a pipe and goes to the trainer by the environment, never by a file."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
POLL_S = 0.1
MEASURE_S = 1.0
"""How often the tree is measured: it takes a walk over all of /proc."""
GRACE_S = 2.0
SANDBOX: dict[str, Any] = {}
BROKER: dict[str, Any] = {}
"""What the files of these names beside this one define: this program is no part of a package."""
MANY_FILES = 200_000
PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run the command of the specification file that is named on standard input; see `loop.trainer.Spec`."""
    line = os.read(0, 65536).decode()
    if line.endswith("\n"):  # else whoever started us is gone
        nonce, _, path = line[:-1].partition(" ")
        run(json.loads(Path(path).read_text()), nonce)


def run(spec: dict[str, Any], nonce: str) -> None:
    """One training run, from its first process to its last."""
    write(Path(spec["supervisor"]), {"pid": os.getpid(), "ticks": ticks(os.getpid())}, durable=False)
    if LIBC:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _frame: stopped.append(n))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    started, clock = time.time(), time.monotonic()
    with open(spec["log"], "ab", buffering=0) as log:
        try:
            child = start(spec, log.fileno(), nonce)
        except OSError as error:
            finish(
                spec, started, clock, 127, "crashed", f"cannot start {spec['command'][0]}: {error.strerror}"
            )
            return
        outcome, reason = watch(child, spec, log.fileno(), stopped)
        code, killed = end_tree(child.pid)
        if killed and outcome == "finished":
            reason = f"ended {killed} process{'es' * (killed > 1)} that it left behind"
        if os.fstat(log.fileno()).st_size > spec["log_bytes"]:
            outcome, reason = "crashed", f"printed more than {spec['log_bytes'] / 2**20:g} MB"
            os.ftruncate(log.fileno(), spec["log_bytes"])
    finish(spec, started, clock, child.wait() if code is None else code, outcome, reason)


def start(spec: dict[str, Any], log: int, nonce: str) -> subprocess.Popen[bytes]:
    """The trainer, behind its fence."""
    ours, theirs = socket.socketpair()

    def prepare() -> None:
        """In the child: a trainer must not outlive a supervisor that was killed, nor leave its fence."""
        if LIBC:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            SANDBOX["enter"](spec["fence"], theirs)
        except BaseException as error:
            os.write(log, f"the sandbox could not be set up: {error}\n".encode())
            os._exit(125)

    child = subprocess.Popen(
        spec["command"],
        cwd=spec["cwd"],
        env={**spec["env"], NONCE: nonce},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=prepare,
    )
    theirs.close()
    with ours:
        _, listeners, _, _ = socket.recv_fds(ours, 64, 1)
    if listeners:
        BROKER["serve"](listeners[0], spec["fence"]["write"])
    return child


def neighbour(name: str) -> dict[str, Any]:
    """What a file beside this one defines."""
    return runpy.run_path(str(Path(__file__).with_name(name)))


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
    measured = time.monotonic()
    wait = end_of(child)
    while not wait(POLL_S):
        now = time.monotonic()
        if stopped:
            return "stopped", "stopped by the engine"
        if now > deadline:
            return "timeout", f"still running after {float(spec['timeout_s']):g} s"
        if os.fstat(log).st_size > spec["log_bytes"]:
            return "crashed", ""
        if now > measured + MEASURE_S:
            if excess := too_much(child.pid, spec):
                return "crashed", excess
            measured = time.monotonic()
    code = child.wait()
    return ("finished", "") if code == 0 else ("crashed", describe(code))


def too_much(pid: int, spec: dict[str, Any]) -> str:
    """What the tree takes more of than it may, as a sentence; empty when it keeps within its limits."""
    tree = [pid, *descendants(pid)]
    if len(tree) > spec["processes"]:
        return f"started {len(tree)} processes, limit {spec['processes']}"
    memory = float(spec["memory_gb"]) * 2**30
    if memory and resident(tree) > memory and (used := resident(tree, exact=True)) > memory:
        return f"used {used / 2**30:.1f} GB of memory, limit {memory / 2**30:.1f} GB"
    disk = float(spec["disk_gb"]) * 2**30
    used, files = on_disk(spec["folders"]) if disk else (0, 0)
    if files > MANY_FILES:
        return f"wrote more than {MANY_FILES:,} files"
    return f"wrote {used / 2**30:.1f} GB of files, limit {disk / 2**30:.1f} GB" if used > disk else ""


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


def resident(pids: list[int], exact: bool = False) -> float:
    """Bytes in memory of these processes. `exact` shares out what several have in common, and is slow."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            if exact:
                lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
            else:
                total += int(Path("/proc", str(pid), "statm").read_text().split()[1]) * PAGE
    return total


def on_disk(folders: list[str], files: int = MANY_FILES) -> tuple[float, int]:
    """Bytes that what is below these folders takes, and how many files; stops counting at `files`."""
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


def end_tree(trainer: int) -> tuple[int | None, int]:
    """Ask the trainer's process group to end, then kill whatever is left below us, however it hid.

    As the subreaper we are an ancestor of all of it: it is over when we have no children. A walk over /proc
    alone would not tell, as it misses a process whose parent dies meanwhile. Returns the trainer's exit code
    if it ended only now, and how many processes had to be killed.
    """
    code, killed = None, set[int]()
    with contextlib.suppress(OSError):
        os.killpg(trainer, signal.SIGTERM)
    patience = time.monotonic() + GRACE_S
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code, len(killed)
        if pid == trainer:
            code = os.waitstatus_to_exitcode(status)
        if pid:
            continue
        if time.monotonic() > patience:
            for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, they cannot make new ones
                for process in descendants(os.getpid()):
                    with contextlib.suppress(OSError):
                        os.kill(process, number)
                        killed.add(process)
        time.sleep(0.01)


def finish(spec: dict[str, Any], started: float, clock: float, code: int, outcome: str, reason: str) -> None:
    """Write exit.json, whole or not at all. Its times differ by what went by, whatever the clock did."""
    report = {
        "outcome": outcome,
        "reason": reason,
        "exit_code": code,
        "started": started,
        "ended": started + time.monotonic() - clock,
    }
    write(Path(spec["exit"]), report, durable=True)


def write(path: Path, content: dict[str, Any], durable: bool) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(content, file)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    SANDBOX, BROKER = neighbour("sandbox.py"), neighbour("broker.py")
    main()
    os._exit(0)  # the interpreter has nothing to tidy up, and someone waits for our end

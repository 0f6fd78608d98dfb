"""The supervisor: the process between the engine and one trainer.

    echo "NONCE SPEC.json" | python -I -S loop/training/programs/supervise.py

It waits for that line, so that it can be started before it is needed. Then it starts the command that the
specification file names, waits for its end, and writes `exit.json`. It is a process of its own so that a
training and its result survive the engine; therefore it also keeps the time-out and the other limits.

When the trainer ends, or on SIGTERM, time-out or an exceeded limit, it ends every process that the trainer
has started, also those that called setsid: it is a subreaper (prctl(2)), so the kernel makes it the parent of
all processes below it whose own parent has died.

The trainer runs behind the fence of `sandbox.py`. This process does not, and the trainer can neither end nor
change it. It uses the standard library only, so that it starts in milliseconds and on any machine.
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
"""Environment variable with the secret with which the trainer proves its result. It comes through a pipe and
is never in a file."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
POLL_S = 0.1
"""Seconds between two looks at the time-out, the size of the log and received signals."""
MEASURE_S = 1.0
"""Seconds between two measurements of processes, memory and disk: each reads all of /proc."""
GRACE_S = 2.0
"""Seconds between asking the trainer's processes to end (SIGTERM) and killing them (SIGKILL)."""
SANDBOX: dict[str, Any] = {}
BROKER: dict[str, Any] = {}
"""The functions of sandbox.py and broker.py, by name. They are filled in when this file is run as a program:
then it cannot import its neighbours."""
MANY_FILES = 200_000
"""A trainer that writes more files than this is ended."""
PAGE = os.sysconf("SC_PAGE_SIZE")
"""Bytes in a page of memory."""


def main() -> None:
    """Read a line from standard input, then run the training that its specification file describes.

    The file holds a `loop.records.training_folder.Spec`.
    """
    line = os.read(0, 65536).decode()
    if line.endswith("\n"):  # else the engine that started this process is gone
        nonce, _, path = line[:-1].partition(" ")
        run(json.loads(Path(path).read_text()), nonce)


def run(spec: dict[str, Any], nonce: str) -> None:
    """Run one training, from its first process to the end of its last one, and write exit.json."""
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
    """Start the trainer behind its fence."""
    ours, theirs = socket.socketpair()

    def prepare() -> None:
        """Put the new process behind the fence, and let it die with this supervisor.

        This is called in the new process, just before the trainer starts in it.
        """
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
    """The functions of another file in this folder, by name."""
    return runpy.run_path(str(Path(__file__).with_name(name)))


def ticks(pid: int) -> int:
    """When a process was started, in clock ticks since the machine started; 0 when it is not known.

    A pid is given to another process after a while; together with this number it is unique.
    """
    with contextlib.suppress(OSError):
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[19])
    return 0


def watch(
    child: subprocess.Popen[bytes], spec: dict[str, Any], log: int, stopped: list[int]
) -> tuple[str, str]:
    """Wait until the trainer ends, exceeds a limit, or is to be stopped; returns the outcome and its reason.

    `stopped` holds the signals that this process has received.
    """
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
            return "crashed", ""  # `run` gives the reason
        if now > measured + MEASURE_S:
            if excess := too_much(child.pid, spec):
                return "crashed", excess
            measured = time.monotonic()
    code = child.wait()
    return ("finished", "") if code == 0 else ("crashed", describe(code))


def too_much(pid: int, spec: dict[str, Any]) -> str:
    """The limit that the process `pid` and all below it exceed, in words; empty when there is none."""
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
    """Make a function that waits so many seconds for the child to end, and says whether it has ended."""
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
                after_name = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(after_name[1]), []).append(int(entry))
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


def end_tree(trainer: int) -> tuple[int | None, int]:
    """Ask the trainer's process group to end, then kill every process that is left below this one.

    As a subreaper, this process is an ancestor of all of them, so they have all ended when it has no children
    any more. Reading /proc alone would not do: it misses a process whose parent dies in that moment.

    Returns the trainer's exit code if it ended only now, and how many processes had to be killed.
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
    """Write exit.json.

    `started` is in seconds since the epoch, `clock` the same moment of the monotonic clock. The end is
    computed with the latter, so that setting the machine's clock does not change the duration.
    """
    report = {
        "outcome": outcome,
        "reason": reason,
        "exit_code": code,
        "started": started,
        "ended": started + time.monotonic() - clock,
    }
    write(Path(spec["exit"]), report, durable=True)


def write(path: Path, content: dict[str, Any], durable: bool) -> None:
    """Write a file that is there either whole or not at all; `durable` also if the machine loses power."""
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
    os._exit(0)  # at once: the engine waits for this end, and there is nothing to tidy up

"""The supervisor of a trainer on this machine: start it, find it again after the engine's restart, end it.

A supervisor is a small process (programs/supervise.py) between the engine and one trainer. It outlives the
engine, so a training goes on while the engine is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec
import psutil

from loop import processes
from loop.errors import UNREADABLE
from loop.paths import owner_only
from loop.records.shaped_file import read_shaped
from loop.records.training_folder import NOTE_MOST, Spec, TrainingFolder
from loop.training.programs import group, supervise, tree
from loop.training.programs.leftovers import remove

KEY = "AUTORESEARCH_TRAINING"
"""Environment variable of a trainer that holds `Job.key`, so that its processes can be recognised."""
ENVIRONMENT_MOST = 2**20
"""Bytes of a process's environment that are looked at: a program can make it seem as large as it likes."""
KILL_AFTER_S = 4.0
"""A supervisor that has not ended its trainer's process tree after this long is killed together with it."""


class Supervisor(msgspec.Struct, frozen=True):
    """Which process is a supervisor: its pid and its start time.

    The pid alone does not tell: after the end of a process it is given to another one.
    """

    pid: int
    ticks: int
    """When the process was started, in clock ticks since the machine started."""

    def lives(self) -> bool:
        """Whether it still runs, and its pid has not been given to another process."""
        return processes.alive(self.pid, self.ticks)


class Standby:
    """A supervisor process that is up and waits to be told what to train.

    It waits on a pipe from the engine. When the engine dies, the pipe closes and the process ends.
    """

    def __init__(self, lock: Path, settle: Callable[[int], None] = lambda pid: None) -> None:
        """`lock` is the lock file of the seat where it will train; `settle` is called with its process id.

        Raises OSError.
        """
        self._held = open(lock, "ab", opener=owner_only)  # noqa: SIM115 - as long as the pipe below
        orders, pipe = os.pipe()
        self._pipe = open(pipe, "wb", buffering=0)  # noqa: SIM115 - it stays open until `start` or `dismiss`
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(supervise.__file__))],
                stdin=orders,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[self._held.fileno()],
                env=_libraries(os.environ),
            )
        except OSError:
            self._pipe.close()
            self._held.close()
            raise
        finally:
            os.close(orders)
        settle(self._process.pid)

    def start(self, files: TrainingFolder, spec: Spec) -> Supervisor:
        """Let it train; from here on it outlives the engine. What has trained already is only judged.

        With a lease in `spec` it does not: it ends when this object, which keeps the pipe open, is gone.

        The supervisor shares the seat's lock, which is taken here and held as long as it lives: even if the
        engine is killed in this moment, no other engine can start a training in the seat.

        Raises BlockingIOError when something trains in the seat already, BrokenPipeError when the waiting
        process has been killed, and other OSErrors of the disk; in all these cases the process is dismissed.
        """
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            trained = files.has_trained(spec.commit)
            if not trained:
                remove(files.out)  # the one part of the folder where an earlier attempt's trainer could write
            files.reset(keep_trained=trained)
            files.write_spec(spec)
            line = order(spec)
            while line:  # a signal may interrupt a write
                line = line[self._pipe.write(line) :]
        except OSError:
            self.dismiss()
            raise
        if not spec.lease:
            self._pipe.close()
        self._held.close()
        return Supervisor(self._process.pid, tree.ticks(self._process.pid))

    def dismiss(self) -> None:
        """End the waiting process without a training."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._held.close()


def order(spec: Spec) -> bytes:
    """What a waiting supervisor reads from its standard input: one line, with all environments."""
    return msgspec.json.encode(spec) + b"\n"


def _libraries(base: Mapping[str, str]) -> dict[str, str]:
    """Variables without which a Python interpreter in an unusual place does not start."""
    return {name: base[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in base}


async def locate(files: TrainingFolder, lock: Path) -> Supervisor | None:
    """The living supervisor of the training in this folder; None when there is none.

    A supervisor that has just started holds the seat's lock before it has written who it is, so this waits
    until it is known or the lock is free.
    """
    while True:
        if found := find(files):
            return found
        if is_free(lock):
            return None
        await asyncio.sleep(0.01)


def find(files: TrainingFolder) -> Supervisor | None:
    """The supervisor that this folder names, if it lives."""
    with contextlib.suppress(OSError, *UNREADABLE):
        found = msgspec.json.decode(read_shaped(files.supervisor, NOTE_MOST) or b"", type=Supervisor)
        return found if found.lives() else None
    return None


def is_free(lock: Path) -> bool:
    """Nothing trains in the seat with this lock file."""
    with contextlib.suppress(FileNotFoundError), lock.open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def end_orphans(files: TrainingFolder) -> int:
    """Kill the processes of a training whose supervisor was itself killed; returns how many there were.

    Nothing tells whose children they were, but the environment of each holds the key of its training. Who has
    wiped that is still in the supervisor's group, where it had one.
    """
    spec = files.read_spec()
    if spec is None or not spec.key:
        return 0
    entry = f"{KEY}={spec.key}".encode()
    return _kill(lambda environment: entry in environment) + group.end_abandoned(everywhere=True)


def sweep(identity: str, known: Collection[str]) -> int:
    """Kill the trainers of one run except those with a known key; returns how many processes there were.

    `identity` names the run: the key of each of its trainings begins with it. Of any run that has been here,
    also what a supervisor that was itself killed has left in its group.
    """
    ours = f"{KEY}={identity}-".encode()
    kept = {f"{KEY}={key}".encode() for key in known}

    def left_behind(environment: list[bytes]) -> bool:
        return any(entry.startswith(ours) and entry not in kept for entry in environment)

    return _kill(left_behind) + group.end_abandoned(everywhere=True)


def _kill(wanted: Callable[[list[bytes]], bool]) -> int:
    """Kill every process whose environment, a list of `NAME=value`, is wanted; returns how many there were.

    Looks again until there are no new ones: a process may start another one before it is killed.
    """
    killed = set[int]()
    while found := set(_processes(wanted)) - killed:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
    return len(killed)


def _processes(wanted: Callable[[list[bytes]], bool]) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError), entry.open("rb", buffering=0) as file:
            if wanted(file.read(ENVIRONMENT_MOST).split(b"\0")):
                found.append(int(entry.parent.name))
    return found


async def ended(supervisor: Supervisor) -> None:
    """Wait until the supervisor is gone. It need not be a child of this process."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(supervisor.pid)
        loop = asyncio.get_running_loop()
        try:
            if tree.ticks(supervisor.pid) != supervisor.ticks:
                return  # it has been gone for so long that its pid belongs to another process
            gone = asyncio.Event()
            loop.add_reader(fd, gone.set)
            await gone.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(supervisor.pid, os.WNOHANG)  # noqa: ASYNC222 - WNOHANG does not wait


async def stop(files: TrainingFolder, supervisor: Supervisor) -> None:
    """End the trainer's whole process tree and its supervisor.

    The supervisor does it; if it has not after `KILL_AFTER_S`, all of them are killed from here.
    """
    if not supervisor.lives():
        return
    tree = _children(supervisor)
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ended(supervisor), KILL_AFTER_S)
        return
    for process in [*tree, *_children(supervisor)]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    if supervisor.lives():
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGKILL)
    end_orphans(files)
    await ended(supervisor)


def _children(supervisor: Supervisor) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(supervisor.pid).children(recursive=True)
    return []

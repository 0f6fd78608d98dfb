"""One training process: start it, follow what it prints, find it again after a restart, end it."""

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
from loop.records.training_folder import Spec, TrainingFolder
from loop.training.programs import supervise

KEY = "AUTORESEARCH_TRAINING"
"""Environment variable of a trainer that names its training: `Job.key`."""
KILL_AFTER_S = 4.0
"""How long a supervisor may take to end its tree."""


class Supervisor(msgspec.Struct, frozen=True):
    """How to find a supervisor again: a pid alone may have been given to another process."""

    pid: int
    ticks: int


class Standby:
    """A supervisor that is up and waits for its run. If we die first, its pipe ends, and so does it."""

    def __init__(self, lock: Path) -> None:
        self._held = lock.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(supervise.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[self._held.fileno()],
            env=_libraries(os.environ),
        )

    def start(self, files: TrainingFolder, spec: Spec, nonce: str = "") -> Supervisor:
        """Let it run, to outlive us. The nonce goes through the pipe and on to the trainer, never to disk.

        It shares `lock`, held from here on: while it lives, even if we are killed in this very moment, no
        other engine can start a run in the same slot. Raises BlockingIOError when one is there already, and
        BrokenPipeError when it has been killed meanwhile.
        """
        assert self._process.stdin is not None, "stdin is a pipe"
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.dismiss()
            raise
        files.reset()
        files.spec.write_bytes(msgspec.json.encode(spec))
        os.write(self._process.stdin.fileno(), f"{nonce} {files.spec}\n".encode())
        self._process.stdin.close()
        self._held.close()
        return Supervisor(self._process.pid, processes.start_ticks(self._process.pid))

    def dismiss(self) -> None:
        """It is not needed."""
        assert self._process.stdin is not None, "stdin is a pipe"
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._held.close()


def _libraries(base: Mapping[str, str]) -> dict[str, str]:
    """What an interpreter of an unusual place needs to start at all."""
    return {name: base[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in base}


async def locate(files: TrainingFolder, lock: Path) -> Supervisor | None:
    """The live supervisor of this run: the one just started, or one to adopt. None when none lives."""
    while True:
        if found := _find(files):
            return found
        if _free(lock):
            return None
        await asyncio.sleep(0.01)


def _find(files: TrainingFolder) -> Supervisor | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        found = msgspec.json.decode(files.supervisor.read_bytes(), type=Supervisor)
        if processes.alive(found.pid, found.ticks):
            return found
    return None


def _free(lock: Path) -> bool:
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def sweep(files: TrainingFolder) -> int:
    """Kill what a supervisor that was itself killed has left of this training; returns how many processes.

    Such orphans have no parent any more that we know, but each carries the training's own result path in its
    environment.
    """
    mark = f"AUTORESEARCH_RESULT={files.result}".encode()
    return _kill(lambda environment: mark in environment)


def sweep_run(identity: str, known: Collection[str]) -> int:
    """Kill the trainers of one run (`identity` begins their keys) except those whose keys are `known`.

    Returns how many processes were killed.
    """
    ours = f"{KEY}={identity}-".encode()
    kept = {f"{KEY}={key}".encode() for key in known}

    def left_behind(environment: list[bytes]) -> bool:
        return any(entry.startswith(ours) and entry not in kept for entry in environment)

    return _kill(left_behind)


def _kill(wanted: Callable[[list[bytes]], bool]) -> int:
    """Kill every process whose environment, as a list of `NAME=value`, is wanted."""
    found = 0
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted(entry.read_bytes().split(b"\0")):
                os.kill(int(entry.parent.name), signal.SIGKILL)
                found += 1
    return found


async def ended(supervisor: Supervisor) -> None:
    """Wait until the supervisor is gone, whether or not it is our child."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(supervisor.pid)
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(fd, gone.set)
            await gone.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(supervisor.pid, os.WNOHANG)  # noqa: ASYNC222 - WNOHANG does not wait


async def stop(files: TrainingFolder, supervisor: Supervisor) -> None:
    """End the whole tree: the supervisor does it; if it cannot, we do. At most `KILL_AFTER_S` + a moment."""
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        tree = psutil.Process(supervisor.pid).children(recursive=True)
        os.kill(supervisor.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(ended(supervisor), KILL_AFTER_S)
        except TimeoutError:
            with contextlib.suppress(psutil.Error):
                tree += psutil.Process(supervisor.pid).children(recursive=True)
            for process in tree:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            os.kill(supervisor.pid, signal.SIGKILL)
            sweep(files)

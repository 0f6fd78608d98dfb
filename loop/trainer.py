"""One training process: start it, follow what it prints, find it again after a restart, end it."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import fcntl
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import psutil

from loop import events as ev
from loop import journal, progress, seal, supervise
from loop.reach import Fence

FOLLOW_S = 0.1
"""How often the log file is looked at."""
KILL_AFTER_S = 4.0
"""How long a supervisor may take to end its tree."""
PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
)
PREFIXES = ("CUDA", "NVIDIA", "NCCL", "TORCH", "TRITON", "OMP_", "MKL_", "OPENBLAS", "AUTORESEARCH_", "XDG_")
"""What a trainer inherits; keys and tokens are in none of these."""
LOG_END = 256 * 1024
"""Bytes of a log's end that are looked at after the run, and that a client gets."""
CURVE_POINTS = 4000
"""Points of a loss curve that are kept in memory while a run goes on."""
BURST = 1 << 20
"""Bytes of a log taken in at once; of what comes faster only the end is shown."""
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


class Spec(msgspec.Struct, frozen=True):
    """What `loop/supervise.py` runs. Times in seconds; 0 GB means no limit."""

    command: list[str]
    cwd: str
    env: dict[str, str]
    log: str
    exit: str
    supervisor: str
    timeout_s: float
    memory_gb: float = 0.0
    log_bytes: int = 64 * 2**20
    commit: str = ""
    fence: Fence = Fence()
    processes: int = 2000
    disk_gb: float = 0.0
    folders: list[str] = []
    """Where `disk_gb` is counted."""
    proof: str = ""
    """What the nonce of a result must hash to; the nonce itself is on no disk."""


class Exit(msgspec.Struct, frozen=True):
    """What the supervisor found when the trainer ended."""

    outcome: ev.Outcome
    reason: str
    exit_code: int
    started: float
    ended: float


class Supervisor(msgspec.Struct, frozen=True):
    """How to find a supervisor again: a pid alone may have been given to another process."""

    pid: int
    ticks: int


class RunFiles:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "run.log"
        self.exit = folder / "exit.json"
        self.spec = folder / "spec.json"
        self.supervisor = folder / "supervisor.json"
        self.out = folder / "out"
        """The only part of this folder that the trainer can write."""
        self.result = self.out / "result.json"
        self.metrics = folder / "metrics.jsonl"

    def reset(self) -> None:
        """An empty folder for a run that starts (again)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.out.mkdir()
        self.log.touch()

    def belongs_to(self, commit: str) -> bool:
        """What is here comes from a run of this commit, not from an earlier idea under the same number."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self.spec.read_bytes(), type=Spec).commit == commit
        return False

    def read_exit(self, commit: str) -> Exit | None:
        """How a run of `commit` ended by itself; None while it runs, or when it was stopped."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            found = msgspec.json.decode(self.exit.read_bytes(), type=Exit)
            return found if found.outcome != "stopped" and self.belongs_to(commit) else None
        return None

    def read_result(self) -> seal.Sealed | None:
        """What the sealed evaluation measured; None where it did not, or where something else says so."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            spec = msgspec.json.decode(self.spec.read_bytes(), type=Spec)
            return seal.read(self.result, spec.proof)
        return None

    def end_of_log(self, size: int = LOG_END) -> str:
        """The last bytes of the log as text; a trainer may have printed any amount."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size).decode("utf-8", "replace")
        return ""


def environment(base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The trainer's environment: an allow-list of `base`, then settings that make CPU training fast.

    Figures: passive OpenMP waiting is 8x faster beside another busy process, and high malloc thresholds keep
    glibc from mapping the logits anew each step (5,384 -> 7,875 tokens/s at vocabulary 4096).
    """
    passed = {
        name: value
        for name, value in base.items()
        if (name in PASSED_ON or name.startswith(PREFIXES)) and not any(word in name for word in SECRET)
    }
    fast = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_THRESHOLD_": "1073741824",
        "MALLOC_TRIM_THRESHOLD_": "2073741824",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    }
    return {**fast, **passed, **extra}


class Standby:
    """A supervisor that is up and waits for its run. If we die first, its pipe ends, and so does it."""

    def __init__(self, lock: Path) -> None:
        self._held = lock.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervise.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[self._held.fileno()],
            env=_libraries(os.environ),
        )

    def start(self, files: RunFiles, spec: Spec, nonce: str = "") -> Supervisor:
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
        return Supervisor(self._process.pid, supervise.ticks(self._process.pid))

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


async def locate(files: RunFiles, lock: Path) -> Supervisor | None:
    """The live supervisor of this run: the one just started, or one to adopt. None when none lives."""
    while True:
        if found := _find(files):
            return found
        if _free(lock):
            return None
        await asyncio.sleep(0.01)


def _find(files: RunFiles) -> Supervisor | None:
    with contextlib.suppress(OSError, msgspec.DecodeError, psutil.Error):
        found = msgspec.json.decode(files.supervisor.read_bytes(), type=Supervisor)
        alive = psutil.Process(found.pid).status() != psutil.STATUS_ZOMBIE
        if alive and supervise.ticks(found.pid) == found.ticks:
            return found
    return None


def _free(lock: Path) -> bool:
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def sweep(files: RunFiles) -> int:
    """Kill what a supervisor that was itself killed has left of this run; returns how many processes.

    Such orphans belong to nobody, but each still carries the run's own result path in its environment.
    """
    mark = f"AUTORESEARCH_RESULT={files.result}".encode()
    found = 0
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in entry.read_bytes().split(b"\0"):
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


async def stop(files: RunFiles, supervisor: Supervisor) -> None:
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


class Follower:
    """Turns what a trainer prints into live events, from the beginning of the log or from where it was."""

    def __init__(self, files: RunFiles, n: int, run: int, publish: Callable[[ev.LiveEvent], None]) -> None:
        self._files, self._n, self._run, self._publish = files, n, run, publish
        self._offset = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        self._metrics = files.metrics.open("wb")
        self._first_step: float | None = None
        self.steps_s = 0.0
        """From the first progress line to the last one, by our clock."""
        self.curve: list[ev.CurvePoint] = []
        self.nans = 0
        """Progress lines without a finite loss since the last one that had one."""

    def read(self) -> None:
        """Take in what is new; of more than a burst only its end."""
        with contextlib.suppress(OSError), self._files.log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size - self._offset > BURST:
                self._offset, self._rest = size - BURST, ""
            file.seek(self._offset)
            data = file.read(BURST)
            self._offset += len(data)
            self._take(self._decode(data))

    def close(self) -> None:
        self.read()
        if self._rest:
            self._take("\n")
        self._metrics.close()

    def _take(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest, lines = self._rest[-10_000:], lines[-2000:]
        plain: list[str] = []
        latest: ev.Progress | None = None
        for line in lines:
            line = progress.clean(line[:10_000])
            if step := progress.parse(line):
                latest = msgspec.structs.replace(step, n=self._n, run=self._run)
                self._point(latest)
                self._metrics.write(ev.encode(latest) + b"\n")
            elif phase := progress.parse_phase(line):
                self._publish(ev.PhaseChanged(self._n, self._run, phase))
            elif line.strip():
                plain.append(line[:1000])
        if latest:
            self._metrics.flush()
            self._publish(latest)
        if plain:
            self._publish(ev.LogLines(self._n, self._run, "\n".join(plain[-200:])))

    def _point(self, step: ev.Progress) -> None:
        now = time.monotonic()
        self._first_step = now if self._first_step is None else self._first_step
        self.steps_s = now - self._first_step
        if step.loss is not None and math.isfinite(step.loss):
            self.curve.append(ev.CurvePoint(step.fraction, step.loss))
            if len(self.curve) > CURVE_POINTS:
                self.curve = self.curve[::2]
        self.nans = 0 if step.loss is None or math.isfinite(step.loss) else self.nans + 1


def read_curve(metrics: Path, points: int = 200) -> list[ev.CurvePoint]:
    """The loss curve of a run, thinned evenly."""
    steps = journal.stream(metrics, ev.Progress)
    curve = [ev.CurvePoint(step.fraction, step.loss) for step in steps if step.loss is not None]
    stride = max(1, len(curve) // points)
    return curve[::stride]

"""What our own evaluator hands over about a run, and what the engine makes of it. Pure, but for `read`.

The evaluator runs inside the candidate's process. Its word is proven by a number used once, and what it says
about time is held against the engine's own clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import secrets
import shutil
from pathlib import Path

import msgspec

from loop import events as ev
from loop.judging.trust import Sealed
from loop.records import journal


class Fence(msgspec.Struct, frozen=True):
    """What `loop/sandbox.py` is told. Paths that are not there are passed over."""

    on: bool = False
    landlock: int = 0
    seccomp: bool = False
    network: bool = False
    file_bytes: int = 0
    """Size that no file may exceed; 0: no limit."""
    read: list[str] = []
    write: list[str] = []
    devices: list[str] = []


def proof(nonce: str) -> str:
    """What the engine keeps of a nonce: on disk nothing lies that a trainer could copy."""
    return hashlib.sha256(nonce.encode()).hexdigest()


def read(path: Path, expected: str) -> Sealed | None:
    """The report in `path`, if it proves that it is this run's and its number is one."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        sealed = msgspec.json.decode(path.read_bytes(), type=Sealed)
        if secrets.compare_digest(proof(sealed.nonce), expected):
            return sealed if math.isfinite(sealed.val_bpb) else None
    return None


LOG_END = 256 * 1024
"""Bytes of a log's end that are looked at after the run, and that a client gets."""


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


class TrainingFolder:
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

    def read_result(self) -> Sealed | None:
        """What the sealed evaluation measured; None where it did not, or where something else says so."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            spec = msgspec.json.decode(self.spec.read_bytes(), type=Spec)
            return read(self.result, spec.proof)
        return None

    def end_of_log(self, size: int = LOG_END) -> str:
        """The last bytes of the log as text; a trainer may have printed any amount."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size).decode("utf-8", "replace")
        return ""


def read_curve(metrics: Path, points: int = 200) -> list[ev.CurvePoint]:
    """The loss curve of a run, thinned evenly."""
    steps = journal.stream(metrics, ev.Progress)
    curve = [ev.CurvePoint(step.fraction, step.loss) for step in steps if step.loss is not None]
    stride = max(1, len(curve) // points)
    return curve[::stride]

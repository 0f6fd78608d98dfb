"""The folder of one training: what the engine, the supervisor and the trainer leave there for each other.

    spec.json        what the supervisor is to run (`Spec`); the engine writes it before the start
    supervisor.json  process id and start time of the supervisor; the supervisor writes it when it starts
    run.log          everything that the trainer prints
    metrics.jsonl    the progress lines of run.log as `Progress` events; the engine writes it meanwhile
    out/             the only part of this folder that the trainer can write
    out/model.pt     the model that the trainer saved; beside it the tokenizer.json and meta.json of its data
    out/result.json  report of the sealed evaluation (`Sealed`); there is none when the trainer is not ours
    exit.json        how the training ended (`Exit`); the supervisor writes it last

From these files a restarted engine goes on with a training that outlived the engine before it.
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
from loop.records.shaped_file import copy_shaped, read_shaped, remove_shaped, size_of_shaped

RESULT_MOST = 64 * 1024
"""Bytes that a sealed result may have; the evaluator's own has some hundred."""
LOG_END = 256 * 1024
"""How many bytes of a log's end are read for the summary, and sent to a client."""

MODEL_MOST = 32 * 2**30
"""Bytes that a model may have: a larger file is not taken for one."""
TEXT_MOST = 64 * 2**20
"""Bytes that each of the files beside a model may have."""
BESIDE_MODEL = ("tokenizer.json", "meta.json")
"""Files that a trainer puts beside its model, so that the model can be given text."""


class Fence(msgspec.Struct, frozen=True):
    """The sandbox around a trainer, as `loop/training/programs/sandbox.py` is to set it up.

    Paths that do not exist are passed over. docs/sandbox.md says what the measures keep out.
    """

    on: bool = False
    """False: nothing but `file_bytes` is enforced."""
    landlock: int = 0
    """Version of the kernel's file access control (Landlock) that this machine has; 0: it has none."""
    seccomp: bool = False
    """The kernel can filter system calls, and is to refuse those that lead around the fence."""
    network: bool = False
    """The trainer may use the network."""
    file_bytes: int = 0
    """Size that no file may exceed; 0: no limit."""
    read: list[str] = []
    """Files and folders that the trainer may read."""
    write: list[str] = []
    """Files and folders that the trainer may read and change."""
    hide: list[str] = []
    """Files and folders, free of links, that stay closed although a folder above them is open."""
    devices: list[str] = []
    """Device files that the trainer may use, such as those of the GPUs."""


class Spec(msgspec.Struct, frozen=True):
    """What a supervisor (`loop/training/programs/supervise.py`) is to run, and within which limits."""

    command: list[str]
    """The trainer's program and its arguments."""
    cwd: str
    """Folder that the command starts in: the slot, which holds the candidate's files."""
    env: dict[str, str]
    """The trainer's whole environment, but for the nonce."""
    log: str
    """File that takes what the trainer prints."""
    exit: str
    """File that takes how it ended."""
    supervisor: str
    """File that takes the supervisor's process id and start time."""
    timeout_s: float
    """Seconds after which a training that still runs is ended."""
    memory_gb: float = 0.0
    """Memory that all its processes may use together; 0: no limit."""
    log_bytes: int = 64 * 2**20
    """Bytes that it may print."""
    commit: str = ""
    """The commit that is trained."""
    fence: Fence = Fence()
    processes: int = 2000
    """Number of processes that it may have at a time."""
    disk_gb: float = 0.0
    """Disk space that its files may take together; 0: no limit."""
    folders: list[str] = []
    """Folders whose files count against `disk_gb`."""
    proof: str = ""
    """SHA-256 of the nonce that the report of the sealed evaluation must hold. The nonce is in no file."""


class Exit(msgspec.Struct, frozen=True):
    """How the trainer ended, as its supervisor saw it."""

    outcome: ev.Outcome
    reason: str
    """The cause in words; mostly empty when it finished."""
    exit_code: int
    """Negative: the number of the signal that killed it."""
    started: float
    """Seconds since the epoch."""
    ended: float
    """`started` plus the seconds that went by, even if the system's clock was set meanwhile."""


class TrainingFolder:
    """The files of one training, by what they are for (see the top of this module)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = folder / "spec.json"
        self.supervisor = folder / "supervisor.json"
        self.log = folder / "run.log"
        self.metrics = folder / "metrics.jsonl"
        self.out = folder / "out"
        self.result = self.out / "result.json"
        self.model = self.out / "model.pt"
        self.exit = folder / "exit.json"

    def reset(self) -> None:
        """Make the folder, or empty it: a training that starts again finds nothing of its last attempt."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.out.mkdir()
        self.log.touch()

    def read_exit(self, commit: str) -> Exit | None:
        """How the training of `commit` ended by itself; None while it runs, and when the engine stopped it.

        Also None when this folder holds the training of another commit: of an earlier candidate of the same
        experiment.
        """
        spec = self._read_spec()
        if spec is None or spec.commit != commit:
            return None
        with contextlib.suppress(OSError, msgspec.DecodeError):
            found = msgspec.json.decode(self.exit.read_bytes(), type=Exit)
            return found if found.outcome != "stopped" else None
        return None

    def read_result(self) -> Sealed | None:
        """The report of the sealed evaluation; None when there is none with the right proof."""
        spec = self._read_spec()
        return read_sealed(self.result, spec.proof) if spec else None

    def model_bytes(self) -> int:
        """The size of the model that the trainer saved; 0 when there is none.

        A trainer can put anything there, so only a plain file of a size to believe is taken for a model. The
        engine never loads it: only a fenced process of the candidate's own code may do that.
        """
        return size_of_shaped(self.model, MODEL_MOST) or 0

    def remove_model(self) -> None:
        """Delete the model, or what is in its place. A folder is none and stays; so does what fails."""
        for name in (self.model.name, f"{self.model.name}.draft", *BESIDE_MODEL):
            remove_shaped(self.out / name)

    def copy_model(self, folder: Path) -> list[Path]:
        """Copy the model and the files beside it into `folder`; returns the copies, the model's first.

        Empty when there is no model. Raises OSError when `folder` cannot be written.
        """
        most = {self.model.name: MODEL_MOST, **dict.fromkeys(BESIDE_MODEL, TEXT_MOST)}
        copies = [folder / name for name in most if copy_shaped(self.out / name, most[name], folder / name)]
        return copies if folder / self.model.name in copies else []

    def end_of_log(self, size: int = LOG_END) -> str:
        """The last `size` bytes of the log as text; empty when there is no log."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size).decode("utf-8", "replace")
        return ""

    def _read_spec(self) -> Spec | None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self.spec.read_bytes(), type=Spec)
        return None


def proof_of(nonce: str) -> str:
    """The SHA-256 of a nonce.

    The engine gives each training a nonce, a secret number used once, and keeps only this on disk: no trainer
    can read there what the report of its sealed evaluation has to hold.
    """
    return hashlib.sha256(nonce.encode()).hexdigest()


def read_sealed(path: Path, proof: str) -> Sealed | None:
    """The report of the sealed evaluation in `path`.

    None when there is none, when its nonce does not have this proof, and when its metric is not finite.
    """
    content = read_shaped(path, RESULT_MOST)
    with contextlib.suppress(msgspec.DecodeError):
        sealed = msgspec.json.decode(content or b"", type=Sealed)
        if secrets.compare_digest(proof_of(sealed.nonce), proof):
            return sealed if math.isfinite(sealed.val_bpb) else None
    return None


def read_curve(metrics: Path, points: int = 200) -> list[ev.CurvePoint]:
    """The loss curve in a `metrics.jsonl`, thinned evenly until fewer than twice `points` are left."""
    steps = journal.stream(metrics, ev.Progress)
    curve = [ev.CurvePoint(step.fraction, step.loss) for step in steps if step.loss is not None]
    stride = max(1, len(curve) // points)
    return curve[::stride]

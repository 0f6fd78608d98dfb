"""The folder of one training: what the engine, the supervisor and the trainer leave there for each other.

    spec.json        what the supervisor is to run (`Spec`), without environments; the engine writes it
    supervisor.json  process id and start time of the supervisor; the supervisor writes it when it starts
    run.log          everything that the trainer prints
    metrics.jsonl    the progress lines of run.log as `Progress` events; the engine writes it meanwhile
    out/             the only part of this folder that the trainer can write
    out/model.pt     the model that the trainer saved; beside it the tokenizer.json and meta.json of its data
    trained.json     how the trainer ended, once it ended well and its model is to be judged
    judge/           what the judge leaves: judged.json (`Judged`), and claims.npy for the next judge
    judge.log        what the candidate's code printed while it was asked; for humans, never for agents
    decision.json    that the engine ends this training, and why (`Decision`); written before it does
    exit.json        how the training ended (`Exit`); the supervisor writes it last

From these files a restarted engine goes on with a training that outlived the engine before it.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import msgspec

from loop import events as ev
from loop.errors import UNREADABLE
from loop.paths import owner_only
from loop.records import journal
from loop.records.shaped_file import copy_shaped, end_of_shaped, read_shaped, remove_shaped, size_of_shaped

NOTE_MOST = 16 * 2**20
"""Bytes that spec.json, exit.json and their like may have; a specification with many paths has the most."""
JUDGED_MOST = 64 * 1024
"""Bytes that the judge's report may have; its own has some hundred."""
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
    memory: bool = False
    """The kernel can give the trainer shared memory of its own, which is gone when it ends."""
    memory_bytes: int = 0
    """How much that shared memory may hold; 0: as much as the kernel allows."""
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


class Answerer(msgspec.Struct, frozen=True):
    """A process of the candidate's code that answers the judge: the claimant, or the witness."""

    env: dict[str, str]
    """Its whole environment."""
    fence: Fence
    remove: list[str] = []
    """Folders that are removed when it and all that it started are dead."""


class Judge(msgspec.Struct, frozen=True):
    """Who measures the model that a trainer saved, and how. docs/verdicts.md says why the number holds."""

    command: list[str]
    """The judge's program: part of the repository, but never a candidate's code. Added to it are
    `--claimant Q A --witness Q A` (file descriptors to write questions to and to read answers from) and
    `words`."""
    words: list[str]
    env: dict[str, str]
    """The judge's whole environment."""
    cwd: str
    """Folder with the candidate's files, in which no trainer can write."""
    answers: list[str]
    """Starts a process that loads the model with the candidate's code and answers questions."""
    answerers: list[Answerer]
    """The claimant and the witness. The second starts when the first and all that it started are dead."""
    model: str
    """The file that the trainer saved."""
    log: str
    """File that takes what the candidate's code prints. It has seen held-out text: no agent may read it."""
    timeout_s: float
    """Seconds after which a judgement that still goes on is ended."""


class Spec(msgspec.Struct, frozen=True):
    """What a supervisor (`loop/training/programs/supervise.py`) is to run, and within which limits."""

    command: list[str]
    """The trainer's program and its arguments."""
    cwd: str
    """Folder that the command starts in: the slot, which holds the candidate's files."""
    env: dict[str, str]
    """The trainer's whole environment; never in a file, as any of its values may be private."""
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
    key: str = ""
    """Names this attempt at the training (`loop.training.executor.Job.key`)."""
    clock: str = ""
    """The trainer's AUTORESEARCH_CLOCK: `cpu` where its budget is processor time."""
    fence: Fence = Fence()
    processes: int = 2000
    """Number of processes that it may have at a time."""
    disk_gb: float = 0.0
    """Disk space that its files may take together; 0: no limit."""
    folders: list[str] = []
    """Folders whose files count against `disk_gb`."""
    remove: list[str] = []
    """Folders that are removed when the trainer and all that it started are dead."""
    saved: list[str] = []
    """Files that the trainer may leave: all else in their folder is removed then."""
    discard: list[str] = []
    """Folders of earlier trainings, which are removed while this one runs."""
    trained: str = ""
    """File that takes how the trainer ended, when its model is to be judged."""
    lease: bool = False
    """The training ends when whoever started the supervisor closes the pipe to it, or dies."""
    judge: Judge | None = None
    """None: nobody measures the model, and the number that the trainer prints is taken."""


def without_environments(spec: Spec) -> Spec:
    """The same specification with every environment empty, as it may be kept in a file."""
    judge = spec.judge
    if judge:
        answerers = [msgspec.structs.replace(answerer, env={}) for answerer in judge.answerers]
        judge = msgspec.structs.replace(judge, env={}, answerers=answerers)
    return msgspec.structs.replace(spec, env={}, judge=judge)


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
    trainer_seconds: float = 0.0
    """From the trainer's start to its exit."""
    cpu_seconds: float = 0.0
    """CPU time of the trainer and of all processes that it started."""
    stalled_seconds: float = 0.0
    """For how long the machine stood still meanwhile, so that nothing on it could run."""
    judge_seconds: float = 0.0
    """How long the model was judged."""
    judge_failed: bool = False
    """The judge did not do its work, so nothing is known of the model."""


class Decision(msgspec.Struct, frozen=True):
    """The engine has decided to end a training: it must not be trained again if the engine dies just now."""

    key: str
    """The attempt that was ended (`loop.training.executor.Job.key`)."""
    outcome: ev.Outcome
    reason: str


class Judged(msgspec.Struct, frozen=True):
    """What the judge found; nanogpt/judge.py writes it."""

    val_bpb: float | None = None
    """The metric, on text that the research is judged by; None when there is no number to believe."""
    hidden_bpb: float | None = None
    """The metric on the hidden text, which no agent is told."""
    data: str = ""
    """Name of the data that it was measured on, made from its content."""
    about: str = ""
    """The data in words, e.g. `sympy, vocabulary 4,096, context 256`."""
    refused: str = ""
    """Why the number is not believed, in a sentence; empty when it is."""
    failed: str = ""
    """Why there is no number: the candidate's code did not answer, in a sentence."""
    probes: int = 0
    """How many claims were proved."""
    worst: float = 0.0
    """By how much a claim was better than its proof, at most, in nats."""
    bias: float = 0.0
    """By how much claims were better than their proofs on average, in nats."""
    claim_s: float = 0.0
    """Seconds that the claimant took for all its answers; `proof_s` are the witness's."""
    proof_s: float = 0.0


class TrainingFolder:
    """The files of one training, by what they are for (see the top of this module)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = folder / "spec.json"
        self.supervisor = folder / "supervisor.json"
        self.log = folder / "run.log"
        self.metrics = folder / "metrics.jsonl"
        self.out = folder / "out"
        self.model = self.out / "model.pt"
        self.trained = folder / "trained.json"
        self.judge = folder / "judge"
        self.judged = self.judge / "judged.json"
        self.claims = self.judge / "claims.npy"
        self.judge_log = folder / "judge.log"
        self.decision = folder / "decision.json"
        self.exit = folder / "exit.json"

    def saved(self) -> list[Path]:
        """What a trainer may leave in `out`."""
        return [self.model, *(self.out / name for name in BESIDE_MODEL)]

    def reset(self, *, keep_trained: bool = False) -> None:
        """Make the folder, or empty it: a training that starts again finds nothing of its last attempt.

        With `keep_trained` what the trainer left stays, so that only the judge has to start again.
        """
        stay = {self.out, self.trained, self.log, self.metrics} if keep_trained else set()
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in set(self.folder.iterdir()) - stay:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.out.mkdir(exist_ok=True)
        self.judge.mkdir()
        self.log.touch(0o600)

    def read_exit(self, commit: str) -> Exit | None:
        """How the training of `commit` ended by itself; None while it runs, and when the engine stopped it.

        Also None when this folder holds the training of another commit: of an earlier candidate of the same
        experiment.
        """
        spec = self.read_spec()
        if spec is None or spec.commit != commit:
            return None
        with contextlib.suppress(OSError, *UNREADABLE):
            found = msgspec.json.decode(read_shaped(self.exit, NOTE_MOST) or b"", type=Exit)
            return found if found.outcome != "stopped" else None
        return None

    def has_trained(self, commit: str) -> bool:
        """The trainer of `commit` ended well, and its model has not been judged yet."""
        spec = self.read_spec()
        return spec is not None and spec.commit == commit and self.trained.exists()

    def write_spec(self, spec: Spec) -> None:
        """Write spec.json: what the supervisor is to run, but no environment. Raises OSError."""
        with open(self.spec, "wb", opener=owner_only) as file:
            file.write(msgspec.json.encode(without_environments(spec)))

    def read_spec(self) -> Spec | None:
        """What the supervisor was to run, without environments; None when there is no spec.json."""
        with contextlib.suppress(OSError, *UNREADABLE):
            return msgspec.json.decode(read_shaped(self.spec, NOTE_MOST) or b"", type=Spec)
        return None

    def decide(self, decision: Decision) -> None:
        """Note that this training is ended. Raises OSError."""
        with open(self.decision, "wb", opener=owner_only) as file:
            file.write(msgspec.json.encode(decision))

    def read_decision(self, key: str) -> Decision | None:
        """What was decided about this attempt, by this engine or an earlier one; None when nothing was."""
        with contextlib.suppress(OSError, *UNREADABLE):
            found = msgspec.json.decode(read_shaped(self.decision, NOTE_MOST) or b"", type=Decision)
            return found if found.key == key else None
        return None

    def has_judge(self) -> bool:
        """There is a judge for this training, so no number counts but the one that it finds."""
        spec = self.read_spec()
        return spec is not None and spec.judge is not None

    def read_judged(self) -> Judged | None:
        """What the judge found; None when it left nothing."""
        content = read_shaped(self.judged, JUDGED_MOST)
        with contextlib.suppress(*UNREADABLE):
            return msgspec.json.decode(content or b"", type=Judged)
        return None

    def model_bytes(self) -> int:
        """The size of the model that the trainer saved; 0 when there is none.

        A trainer can put anything there, so only a plain file of a size to believe is taken for a model. The
        engine never loads it: only a fenced process of the candidate's own code may do that.
        """
        return size_of_shaped(self.model, MODEL_MOST) or 0

    def remove_model(self) -> None:
        """Delete the model, or what is in its place, and what it claimed.

        A folder is no model and stays; so does what fails.
        """
        for name in (self.model.name, f"{self.model.name}.draft", *BESIDE_MODEL):
            remove_shaped(self.out / name)
        remove_shaped(self.claims)

    def copy_model(self, folder: Path) -> list[Path]:
        """Copy the model and the files beside it into `folder`; returns the copies, the model's first.

        Empty when there is no model. Raises OSError when `folder` cannot be written.
        """
        most = {self.model.name: MODEL_MOST, **dict.fromkeys(BESIDE_MODEL, TEXT_MOST)}
        copies = [folder / name for name in most if copy_shaped(self.out / name, most[name], folder / name)]
        return copies if folder / self.model.name in copies else []

    def end_of_log(self, size: int = LOG_END) -> str:
        """The last `size` bytes of the log as text; empty when there is no log."""
        return end_of_shaped(self.log, size).decode("utf-8", "replace")

    def end_of_judge_log(self) -> str:
        """The end of what the candidate's code printed while it was asked. No agent may see it."""
        return end_of_shaped(self.judge_log, LOG_END).decode("utf-8", "replace")


def read_progress(metrics: Path, points: int = 200) -> list[ev.Progress]:
    """The progress lines with a loss in a `metrics.jsonl`, thinned evenly until fewer than twice `points` are
    left."""
    steps = [step for step in journal.stream(metrics, ev.Progress) if step.loss is not None]
    stride = max(1, len(steps) // points)
    return steps[::stride]


def read_curve(metrics: Path, points: int = 200) -> list[ev.CurvePoint]:
    """The loss curve in a `metrics.jsonl`, thinned in the same way."""
    steps = read_progress(metrics, points)
    return [ev.CurvePoint(step.fraction, step.loss) for step in steps if step.loss is not None]

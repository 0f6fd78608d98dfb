"""What another machine is told about a training, what it answers, and the files of both.

    order.json       what to train, and how (`Order`)
    objects          the commit's files (`Repository.packed`)
    reference.npy    what the incumbent's model claimed; missing where there is no judge
    claim            who works on the order: whoever made this file; the number of its batch job, if it is one
    node.json        where it runs (`Node`)
    pulse            a number that changes as long as the order is worked on
    training/        the training's folder on that machine (loop/records/training_folder.py)
    report.json      how it ended (`Report`); written last

Where the engine reads this folder itself, there are also:

    start            names the order among those with the same key
    number           the number of its batch job
    stop             once it is there, the training is to end

No part of this is secret, and no variable of the engine's environment is in it.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from loop import __version__
from loop.config import Settings
from loop.paths import RunPaths, write_whole
from loop.records.shaped_file import size_of_shaped
from loop.records.training_folder import JUDGED_MOST, MODEL_MOST, TEXT_MOST, TrainingFolder
from loop.training.executor import Ended, Job, Lost

ABOUT_TRAINING = (
    "train_command", "prepare_command", "judge_command", "answers_command", "editable", "metric", "budget_s",
    "timeout_s", "memory_gb", "disk_gb", "data", "held_out", "sandbox", "sandbox_read", "dry_run", "network",
)  # fmt: skip
"""Settings that the other machine needs. The others are the engine's own business."""
RESULTS = {
    "spec.json": TEXT_MOST,
    "judge.log": TEXT_MOST,
    "judge/judged.json": JUDGED_MOST,
    "judge/claims.npy": MODEL_MOST,
    "out/tokenizer.json": TEXT_MOST,
    "out/meta.json": TEXT_MOST,
    "out/model.pt": MODEL_MOST,
}
"""Files of a training that the engine wants, and the most bytes that each may have."""


class Order(Struct, frozen=True):
    """One training, or the preparation of its data, on another machine."""

    version: str
    """Of autoresearch-tui, which has to be the same on both machines."""
    settings: dict[str, Any]
    """Those of `ABOUT_TRAINING`."""
    run: str
    """Names the research run among all that use the other machine."""
    session: str
    """Names the engine since its start: each machine prepares the data once for it."""
    key: str
    """`Job.key`; for a preparation any name."""
    commit: str
    only_prepare: bool = False
    """Prepare the data and end."""
    n: int = 0
    training: int = 0
    seed: int = 0
    budget_s: float = 0.0
    editable: str = ""
    share: int = 1
    """How many trainings share that machine's memory and cores."""
    root: str = ""
    """Folder on that machine for what trainings have in common; empty: in the user's state folder."""


class Node(Struct, frozen=True):
    """The machine where an order is carried out, and the process that does it."""

    host: str
    pid: int
    place: str
    """Name of the machine, with the numbers of the GPUs that the training has there."""


class Report(Struct, frozen=True):
    """How an order ended; one of the three says it."""

    ended: Ended | None = None
    lost: Lost | None = None
    refused: str = ""
    """Why nothing was trained, in a sentence: the training did not cause it."""
    files: dict[str, int] = {}
    """The files that the engine is to fetch, by their names in the training's folder, and their sizes."""


class OrderFolder:
    """The files of one order, by what they are for (see the top of this module)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.order = folder / "order.json"
        self.objects = folder / "objects"
        self.reference = folder / "reference.npy"
        self.claim = folder / "claim"
        self.stop = folder / "stop"
        self.pulse = folder / "pulse"
        self.start = folder / "start"
        self.number = folder / "number"
        self.node = folder / "node.json"
        self.training = TrainingFolder(folder / "training")
        self.report = folder / "report.json"

    def results(self) -> dict[str, int]:
        """Sizes of the files in the training's folder that the engine wants, where they are plain files.

        A candidate can shape most of them.
        """
        sizes = {name: size_of_shaped(self.training.folder / name, most) for name, most in RESULTS.items()}
        return {name: size for name, size in sizes.items() if size is not None}


def run_name(paths: RunPaths) -> str:
    """Names a run among all that use the same cluster; made once and kept in `cluster.id` of its folder.

    `RunPaths.identity` would not do: on two machines a run may have the same path.
    """
    file = paths.folder / "cluster.id"
    if not file.exists():
        write_whole(file, secrets.token_hex(8).encode())
    return file.read_text()


def parcel(order: Order, objects: bytes, reference: bytes | None) -> dict[str, bytes]:
    """The files of an order by their names."""
    files = {"order.json": msgspec.json.encode(order), "objects": objects}
    return files if reference is None else {**files, "reference.npy": reference}


def for_job(settings: Settings, job: Job, *, run: str, session: str, share: int, root: str) -> Order:
    """The order to train a job."""
    return Order(
        version=__version__,
        settings={name: getattr(settings, name) for name in ABOUT_TRAINING},
        run=run,
        session=session,
        key=job.key,
        commit=job.commit,
        n=job.n,
        training=job.training,
        seed=job.seed,
        budget_s=job.budget_s,
        editable=job.editable,
        share=share,
        root=root,
    )


def to_prepare(settings: Settings, commit: str, *, run: str, session: str, root: str, key: str) -> Order:
    """The order to prepare the data of a commit."""
    return Order(
        version=__version__,
        settings={name: getattr(settings, name) for name in ABOUT_TRAINING},
        run=run,
        session=session,
        key=key,
        commit=commit,
        only_prepare=True,
        root=root,
    )

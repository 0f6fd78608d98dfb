"""The contract of an executor: something that has seats and runs trainings on them.

An executor may use this machine, a cluster or a batch queue. It always fills the same folder on the engine's
disk for each training: `run.log` as it grows, what the trainer handed over, and `exit.json` last. So nothing
else needs to know where a training ran. tests/loop/training/contract.py is the test suite that every executor
passes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from loop import events as ev
from loop.records.training_folder import Exit, TrainingFolder

Show = Callable[[ev.LiveEvent], None]
"""Shows a live event to whoever watches."""


class PrepareFailed(Exception):
    """The data could not be prepared; the message is one sentence."""


class Machine(Struct, frozen=True):
    """A machine where trainings run."""

    name: str
    seats: int = 1
    """How many trainings may run there at once."""
    gpu: str = ""
    """Name of its GPUs; empty where there are none."""
    fence: str = "off"
    """How strong the fence around trainers is there, in words."""


class Job(Struct, frozen=True):
    """One attempt at one training."""

    key: str
    """Names this attempt and no other: to start the same key again finds the training that runs already."""
    n: int
    """Number of the experiment."""
    training: int
    """Number of the training within its experiment, counted from 1."""
    commit: str
    seed: int
    budget_s: float
    seat: int
    """Number of the seat that it takes, counted from 0."""
    folder: TrainingFolder
    """The training's folder on the engine's disk."""
    editable: str
    """The one file of the commit that may differ from the incumbent's."""
    reference: Path | None = None
    """What the incumbent's model claimed: the judge looks where this one claims to be better."""


class Ended(Struct, frozen=True):
    """The training ended by itself, or its supervisor ended it at the time-out or another limit."""

    exit: Exit
    changed: list[str] = []
    """Files that the training changed although they are not the candidate's to change."""
    changed_data: str = ""
    """A file of training data that changed meanwhile: no later measurement on that data can be believed."""
    place: str = ""
    """Name of the machine where it ran, if `start` could not know it; else empty."""


class Lost(Struct, frozen=True):
    """The training is gone without a result of its own, because it or its supervisor was killed."""

    reason: str
    changed_data: str = ""
    """As in `Ended`."""


class Executor(Protocol):
    """Runs trainings. An engine creates one and uses it until it ends."""

    def describe(self) -> Sequence[Machine]:
        """The machines where trainings run."""
        ...

    def capacity(self) -> int:
        """How many trainings may run at once, over all machines."""
        ...

    async def prepare(self, commit: str, show: Show) -> None:
        """Make the training data with the repository's own command, before the first training.

        Does nothing when this executor has done it before. Raises `PrepareFailed`.
        """
        ...

    async def start(self, job: Job) -> str:
        """Start the training, or find it again if it runs or has ended already (the same `job.key`).

        Returns its place: the name of the machine where it runs, or where it waits for one. Afterwards its
        folder exists. A training that was lost or stopped starts anew. Raises OSError when it cannot be
        started now.
        """
        ...

    async def follow(self, job: Job) -> Ended | Lost:
        """Fill the folder of a training that `start` has started or found, and return when it has ended.

        Cancelling this does not end the training, and it can be followed again; `stop` ends it.
        """
        ...

    async def stop(self, job: Job) -> None:
        """End the training's whole process tree. `follow` returns soon after.

        Does nothing when the training does not run.
        """
        ...

    async def sweep(self, known: Collection[str]) -> int:
        """End the trainers that an earlier engine of this run left behind, except those with a `known` key.

        Returns how many processes or jobs were ended; 0 when there was nothing to do.
        """
        ...

    def processes(self) -> list[int]:
        """Process ids on this machine below which everything belongs to a trainer.

        The engine takes no commands from these processes.
        """
        ...

    async def close(self) -> None:
        """Leave nothing behind but trainings that still run: no idle process, no temporary file."""
        ...

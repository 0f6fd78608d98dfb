"""The contract of an executor: something that has seats and runs trainings on them.

Whatever it is (this machine, a cluster, a queue), it fills the same folder on the engine's disk for each
training: `run.log` as it grows, what the trainer handed over, and `exit.json` last. So nothing above knows
where a training ran. tests/loop/training/contract.py is the test suite that every executor passes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from msgspec import Struct

from loop import events as ev
from loop.records.training_folder import Exit, TrainingFolder

Show = Callable[[ev.LiveEvent], None]


class PrepareFailed(Exception):
    """The data could not be prepared; the message is one sentence."""


class Place(Struct, frozen=True):
    """A machine where trainings run."""

    name: str
    seats: int = 1
    gpu: str = ""
    """Name of its GPUs; empty where there are none."""
    fence: str = "off"
    """How strong the fence around trainers is there, in words."""


class Job(Struct, frozen=True):
    """One attempt at one training."""

    key: str
    """Names this attempt and no other: whoever starts it twice gets the same training."""
    n: int
    training: int
    commit: str
    seed: int
    budget_s: float
    seat: int
    folder: TrainingFolder
    """The training's folder on the engine's disk."""
    editable: str
    """The one file of the commit that may differ from the incumbent's."""


class Ended(Struct, frozen=True):
    """The training has ended by its own doing, or at a limit that its supervisor keeps."""

    exit: Exit
    changed: list[str] = []
    """Files that are not the candidate's to change, and that the training changed all the same."""
    damaged: str = ""
    """Training data that the training changed: nothing measured after it can be believed."""


class Lost(Struct, frozen=True):
    """The training is gone without a result, and not by its own doing."""

    reason: str
    damaged: str = ""


class Executor(Protocol):
    """Runs trainings. One object serves one engine for its whole life."""

    def describe(self) -> Sequence[Place]:
        """The places where trainings run."""
        ...

    def capacity(self) -> int:
        """How many trainings may run at once, over all places."""
        ...

    async def prepare(self, commit: str, show: Show) -> None:
        """Make the training data with the repository's own command, before the first training.

        Costs nothing when it was done before. Raises `PrepareFailed`.
        """
        ...

    async def start(self, job: Job) -> None:
        """Start the training, or find it again if it runs or has ended already (the same `job.key`).

        Raises OSError when that cannot be done now.
        """
        ...

    async def follow(self, job: Job) -> Ended | Lost:
        """Fill the folder of a training that `start` has started or found, and return when it has ended.

        Cancelling this does not end the training: `stop` does.
        """
        ...

    async def stop(self, job: Job) -> None:
        """End the training's whole process tree. `follow` returns soon after."""
        ...

    async def sweep(self, known: Collection[str]) -> int:
        """End what an earlier engine of this run left behind, except the trainings whose keys are `known`.

        Returns how many processes that were.
        """
        ...

    def processes(self) -> list[int]:
        """Ids of processes on this machine below which everything is a trainer's and commands nothing."""
        ...

    async def close(self) -> None:
        """Leave nothing behind but the trainings that run: no idle process, no temporary file."""
        ...

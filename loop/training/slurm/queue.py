"""Slurm's commands: submit a job, look at the queue, cancel. The engine asks Slurm in no other way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from loop.config import Settings
from loop.errors import UsageError
from loop.training import fence

ANSWER_S = 8.0
"""How long a command may take to answer before Slurm counts as out of reach."""
LOOK_S = 1.0
"""How old a look at the queue may be: it is the same for all trainings."""
NEVER = {
    "PartitionTimeLimit": "set --slurm-time to what the partition allows",
    "PartitionNodeLimit": "choose another --slurm-partition",
    "PartitionDown": "choose another --slurm-partition",
    "BadConstraints": "no machine has what --slurm-gres and `slurm_options` ask for",
    "AccountNotAllowed": "set another --slurm-account",
    "InvalidAccount": "set another --slurm-account",
    "InvalidQOS": "set another QOS in `slurm_options`",
    "AssocMaxWallDurationPerJobLimit": "set a shorter --slurm-time",
    "QOSMaxWallDurationPerJobLimit": "set a shorter --slurm-time",
    "JobHeldUser": "release it with `scontrol release`",
    "JobHeldAdmin": "ask who runs the cluster",
}
"""Slurm's reasons for which a job waits in vain, and what to do."""
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")


class OutOfReach(Exception):
    """Slurm does not answer, which says nothing about its jobs; the reason in words."""


class QueuedJob(Struct, frozen=True):
    """One of our jobs that waits or runs."""

    id: str
    name: str
    state: str
    """In Slurm's words, such as PENDING or RUNNING."""
    reason: str
    """Why it waits, in Slurm's words."""


class Queue:
    """The jobs whose names begin with a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._jobs: list[QueuedJob] = []
        self._looked_at = 0.0
        self._looking = asyncio.Lock()

    async def jobs(self, *, fresh: bool = False) -> list[QueuedJob]:
        """Jobs that wait or run; `fresh`: as it is now. Raises `OutOfReach`."""
        asked_at = time.monotonic()
        async with self._looking:
            if self._looked_at < (asked_at if fresh else asked_at - LOOK_S):
                began = time.monotonic()
                said = await _ask("squeue", "--noheader", "--me", "--format=%i|%j|%T|%r")
                lines = [line.strip().split("|", 3) for line in said.splitlines() if line.count("|") >= 3]
                jobs = [QueuedJob(*line) for line in lines]
                self._jobs = [job for job in jobs if job.name.startswith(self._prefix)]
                self._looked_at = began
            return self._jobs

    async def submit(self, name: str, script: str, options: Sequence[str], log: Path) -> str:
        """Submit a batch script; returns the job's number. Raises OSError with what Slurm says."""
        words = ["sbatch", "--parsable", "--no-requeue", f"--job-name={name}", f"--output={log}"]
        try:
            said = await _ask(*words, "--open-mode=append", *options, stdin=script)
        except OutOfReach as error:
            raise OSError(0, str(error), "Slurm") from error
        return said.strip().split(";")[0]

    async def cancel(self, *numbers: str) -> None:
        """End jobs: their processes get SIGTERM, and SIGKILL later. Where Slurm does not answer, nothing."""
        with contextlib.suppress(OutOfReach):
            if numbers:
                await _ask("scancel", *numbers)

    async def end_of(self, number: str) -> str:
        """The last state of a job that is not in the queue, in Slurm's words; empty when it has forgotten."""
        with contextlib.suppress(OutOfReach):
            said = await _ask("scontrol", "--oneliner", "show", "job", number)
            return next((w.partition("=")[2] for w in said.split() if w.startswith("JobState=")), "")
        return ""


def options(settings: Settings, minutes: int = 0) -> list[str]:
    """What sbatch is told of a job's resources; without `minutes`, as long as the partition allows."""
    time_limit = settings.slurm_time or minutes
    words = [*([f"--time={time_limit}"] if time_limit else []), "--ntasks=1"]
    given = {
        "partition": settings.slurm_partition,
        "account": settings.slurm_account,
        "gres": settings.slurm_gres,
    }
    words += [f"--{name}={value}" for name, value in given.items() if value]
    return words + settings.slurm_options


def check(settings: Settings) -> None:
    """Raise `UsageError` when there is no Slurm here, it does not answer, or does not know the partition."""
    missing = [command for command in COMMANDS if not shutil.which(command)]
    if missing:
        raise UsageError(
            f"{missing[0]} is not on the PATH: start the engine on a machine of the Slurm cluster"
        )
    try:
        said = subprocess.run(
            ["sinfo", "--noheader", "--format=%R"],
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            env=environment(os.environ),
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"Slurm does not answer within {ANSWER_S:.0f} s: is its controller alive?"
        ) from error
    if said.returncode != 0:
        raise UsageError(f"Slurm does not answer: {_last_line(said.stderr)}")
    partitions = set(said.stdout.split())
    if settings.slurm_partition and settings.slurm_partition not in partitions:
        raise UsageError(
            f"Slurm has no partition {settings.slurm_partition!r}: it has {', '.join(sorted(partitions))}"
        )


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for Slurm's commands. sbatch passes them on to the job, so no key is among them."""
    ours = {name: value for name, value in environ.items() if name.startswith("SLURM_")}
    return fence.environment(environ, ours)


async def _ask(*words: str, stdin: str = "") -> str:
    """What a command prints. Raises `OutOfReach` when it fails or does not answer."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(os.environ),
        )
    except OSError as error:
        raise OutOfReach(f"{words[0]}: {error.strerror}") from error
    try:
        async with asyncio.timeout(ANSWER_S):
            said, failure = await process.communicate(stdin.encode())
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise OutOfReach(f"{words[0]} does not answer") from error
        raise
    if process.returncode != 0:
        raise OutOfReach(_last_line(failure.decode("utf-8", "replace")) or f"{words[0]} failed")
    return said.decode("utf-8", "replace")


def _last_line(text: str) -> str:
    """What a command complained of last, without the command's name."""
    lines = text.strip().splitlines() or [""]
    return lines[-1].removeprefix("sbatch: error: ").removeprefix("slurm_load_").strip()[:200]

"""The program that carries out one order on a machine of a cluster.

    python -P -m loop.training.remote.node FOLDER [--leased]
    python -P -m loop.training.remote.node --describe
    python -P -m loop.training.remote.node --remove FOLDER

`FOLDER` holds the order (order.py). The training runs there as it would on the engine's own machine: this is
`LocalExecutor` with a repository that has the order's commit only. It ends when the training has ended, and
ends the training on SIGTERM, with `--leased` also when its standard input closes. If it is killed, so is the
training: its supervisor has a lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import itertools
import os
import platform
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec
import platformdirs
from msgspec import Struct

from loop import __version__
from loop import events as ev
from loop.config import Settings
from loop.errors import UsageError, describe
from loop.paths import RunPaths, write_whole
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.training import fence
from loop.training.executor import Job, Lost, PrepareFailed
from loop.training.local import LocalExecutor
from loop.training.programs import leftovers
from loop.training.remote.order import Node, Order, OrderFolder, Report

GPUS = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver describes each GPU."""
BEAT_S = 1.0
"""How often it is looked whether the training is to end, and shown that this program lives."""
LOCK_S = 0.2
"""How often it is tried again to get a lock."""


class Description(Struct, frozen=True):
    """A machine of a cluster, as `--describe` prints it."""

    host: str
    version: str
    """Of autoresearch-tui."""
    fence: str
    """How strong the fence around trainers is there."""
    gpu: str = ""
    """The model of its GPUs; empty where there are none."""


def main(words: list[str]) -> None:
    if words == ["--describe"]:
        print(msgspec.json.encode(describe_machine()).decode())
    elif words[0] == "--remove":
        leftovers.remove(Path(words[1]))
    else:
        with contextlib.suppress(OSError):  # Ray gives its workers a low priority; only root can take it back
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        asyncio.run(carry_out(OrderFolder(Path(words[0])), leased="--leased" in words))


def describe_machine() -> Description:
    """This machine."""
    return Description(platform.node(), __version__, str(fence.detect()), gpu_model())


def gpu_model() -> str:
    """The model of this machine's GPUs as its driver names it; empty when there are none."""
    for file in sorted(GPUS.glob("*/information")):
        with contextlib.suppress(OSError):
            for line in file.read_text().splitlines():
                if line.startswith("Model:"):
                    return line.partition(":")[2].strip()
    return ""


def name_of_place(host: str, environ: Mapping[str, str]) -> str:
    """The name of a place to train: of its machine and, where a cluster has chosen some, of its GPUs."""
    gpus = environ.get("CUDA_VISIBLE_DEVICES", "")
    return f"{host}:{gpus}" if gpus else host


async def carry_out(folder: OrderFolder, *, leased: bool) -> None:
    """Carry out the order in `folder` and write the report; nothing where somebody else has claimed it.

    A batch queue may start the same order twice, after a restart of its controller or of a machine.
    """
    try:
        with folder.claim.open("x") as claim:
            claim.write(os.environ.get("SLURM_JOB_ID", ""))
    except FileExistsError:
        return
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if leased:
        loop.add_reader(0, stop.set)  # nothing is ever written to it
    node = Node(platform.node(), os.getpid(), name_of_place(platform.node(), os.environ))
    write_whole(folder.node, msgspec.json.encode(node))
    watching = asyncio.create_task(_watch(folder, stop))
    write_whole(folder.report, msgspec.json.encode(await _report(folder, stop)))
    watching.cancel()


async def _watch(folder: OrderFolder, stop: asyncio.Event) -> None:
    """Set `stop` once the file `stop` is there, or the folder is gone; until then, show that this lives.

    An engine that only shares the folder has no other way to tell, and to know.
    """
    for beat in itertools.count():
        if folder.stop.exists() or not folder.order.exists():
            stop.set()
            return
        with contextlib.suppress(OSError):
            folder.pulse.write_text(str(beat))
        await asyncio.sleep(BEAT_S)


async def _report(folder: OrderFolder, stop: asyncio.Event) -> Report:
    """Carry out an order; whatever happens, there is a report."""
    try:
        order = msgspec.json.decode(folder.order.read_bytes(), type=Order)
        if order.version != __version__:
            return Report(
                refused=f"{platform.node()} has autoresearch-tui {__version__}, not {order.version}"
            )
        return await _begin(order, folder, stop)
    except (PrepareFailed, UsageError) as error:
        return Report(refused=str(error))
    except OSError as error:
        return Report(refused=f"{platform.node()}: {describe(error)}")


async def _begin(order: Order, folder: OrderFolder, stop: asyncio.Event) -> Report:
    """Make the executor for an order and use it."""
    cores = int(os.environ.get("SLURM_CPUS_ON_NODE") or len(os.sched_getaffinity(0)))
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // order.share))  # a cluster's workers say 1
    # Not in the cache folder: trainers may read that, and orders hold what the judge keeps from them.
    state = Path(platformdirs.user_state_dir("autoresearch-tui"))
    root = Path(order.root) if order.root else state / "nodes"
    paths = RunPaths(root.expanduser() / platform.node() / order.run, "node")
    paths.folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    with _locked(paths.folder / "repository.lock"):
        repository = Repository.at(paths.root)
        repository.add(folder.objects.read_bytes())
    settings = msgspec.convert(order.settings, Settings)
    executor = LocalExecutor(settings, paths, repository, order.share, leased=True)
    with _own_seat(paths) as seat:
        try:
            return await _carry_out(order, _job(order, folder, seat), folder, paths, executor, stop)
        finally:
            await executor.close()
            repository.close()


async def _carry_out(
    order: Order,
    job: Job,
    folder: OrderFolder,
    paths: RunPaths,
    executor: LocalExecutor,
    stop: asyncio.Event,
) -> Report:
    """Do what an order says until it is done, or until `stop`."""
    working = asyncio.create_task(_work(order, job, folder, paths, executor))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await executor.stop(job)
    return Report(lost=Lost("it was stopped"))


@contextlib.contextmanager
def _own_seat(paths: RunPaths) -> Iterator[int]:
    """The lowest number that no other program of this run has on this machine; it is free at the end."""
    for number in itertools.count():
        with (paths.folder / f"seat-{number}").open("ab") as file:
            if _lock(file):
                yield number
                return


def _lock(file: IO[bytes]) -> bool:
    """Lock a file as long as it is open; False when another process has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _work(
    order: Order, job: Job, folder: OrderFolder, paths: RunPaths, executor: LocalExecutor
) -> Report:
    """Prepare the data, if that is still to do, and train."""
    settings = msgspec.convert(order.settings, Settings)
    folder.training.folder.mkdir(exist_ok=True)
    done = paths.folder / "prepared"
    cache = fence.data_folders(os.environ, settings.data)[0]
    async with _locked_in_turn(cache / "prepare.lock"):
        if not done.exists() or done.read_text() != order.session:
            with folder.training.log.open("a") as log:
                await executor.prepare(order.commit, functools.partial(_say, order, log.fileno()))
            done.write_text(order.session)
    if order.only_prepare:
        return Report()
    await executor.start(job)
    ended = await executor.follow(job)
    if isinstance(ended, Lost):
        return Report(lost=ended)
    ended = msgspec.structs.replace(ended, place=name_of_place(platform.node(), os.environ))
    return Report(ended=ended, files=folder.results())


def _say(order: Order, log: int, event: ev.LiveEvent) -> None:
    """Print what a preparation says, for an engine that waits for it."""
    if order.only_prepare and isinstance(event, ev.Preparing) and event.text:
        os.write(log, f"{event.text}\n".encode())


def _job(order: Order, folder: OrderFolder, seat: int) -> Job:
    return Job(
        key=order.key,
        n=order.n,
        training=order.training,
        commit=order.commit,
        seed=order.seed,
        budget_s=order.budget_s,
        seat=seat,
        folder=TrainingFolder(folder.training.folder),
        editable=order.editable,
        reference=folder.reference if folder.reference.exists() else None,
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file that this run's processes on all machines with this folder share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.asynccontextmanager
async def _locked_in_turn(path: Path) -> AsyncIterator[None]:
    """The same for a lock that another process may hold for minutes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        while not _lock(file):  # noqa: ASYNC110 - another process frees it
            await asyncio.sleep(LOCK_S)
        yield


if __name__ == "__main__":
    main(sys.argv[1:])

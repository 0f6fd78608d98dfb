"""How many trainings run at once on this machine, and what share of it each seat has.

A seat has its own GPU, or its own cores, and nothing of the others': a neighbour that is busy must not move a
number, and a trainer must not reach the GPU of another one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
import psutil

from loop.config import Settings
from loop.errors import UsageError
from loop.records.training_folder import Fence

MEMORY_SHARE = 0.9
"""Share of the machine's memory that all trainings together may use, where the settings name no limit."""
LEAST_GB = 0.25
"""A seat with less memory than this is refused: Python with torch alone needs more."""
DEVICES = Path("/dev")
GPU_DEVICE = re.compile(r"nvidia(\d+)")
"""Names of the devices that are one NVIDIA GPU each; the others, such as nvidiactl, belong to all."""


class Gpu(msgspec.Struct, frozen=True):
    """An NVIDIA GPU that trainings may use."""

    id: str
    """What CUDA_VISIBLE_DEVICES calls it: its UUID, or its index where the driver cannot be asked."""
    minor: int | None = None
    """Number of its device file; None where that is not known."""
    name: str = ""


class Seat(msgspec.Struct, frozen=True):
    """What of this machine belongs to one seat."""

    cores: tuple[int, ...] = ()
    """Processors that its trainings may run on; empty: all of them."""
    gpu: Gpu | None = None
    """The only GPU that its trainings may use; None: whatever there is."""

    def variables(self) -> dict[str, str]:
        """Environment variables that keep a training to its share."""
        found = {"OMP_NUM_THREADS": str(len(self.cores))} if self.cores else {}
        return found | ({"CUDA_VISIBLE_DEVICES": self.gpu.id} if self.gpu else {})

    def narrowed(self, fence: Fence) -> Fence:
        """The fence without the devices of other seats' GPUs."""
        minor = self.gpu.minor if self.gpu else None
        if minor is None:
            return fence
        others = [
            d for d in fence.devices if (m := GPU_DEVICE.fullmatch(Path(d).name)) and int(m[1]) != minor
        ]
        return msgspec.structs.replace(fence, devices=[d for d in fence.devices if d not in others])

    def settle(self, pid: int) -> None:
        """Keep a process, and what it will start, to the seat's cores."""
        if self.cores:
            with contextlib.suppress(OSError):  # it is gone, or a container forbids it: then it shares all
                os.sched_setaffinity(pid, self.cores)


def capacity(settings: Settings, environ: Mapping[str, str]) -> int:
    """How many trainings may run at once here: the setting `workers`, checked against the machine.

    Raises `UsageError` when the machine has not enough GPUs or memory for so many.
    """
    found = gpus(environ) if settings.workers != 1 else []
    most = len(found) * settings.workers_per_gpu
    number = settings.workers or max(1, most)
    if number == 1:
        return 1
    if found and number > most:
        words = "1 GPU" if len(found) == 1 else f"{len(found)} GPUs"
        raise UsageError(
            f"--workers {number}, but this machine has {words}: at most {most}, or set `workers_per_gpu` "
            "to let several trainings share a GPU"
        )
    total_gb = psutil.virtual_memory().total / 2**30
    each_gb = settings.memory_gb or MEMORY_SHARE * total_gb / number
    if each_gb * number > total_gb or each_gb < LEAST_GB:
        least_gb = settings.memory_gb or LEAST_GB
        raise UsageError(
            f"--workers {number} needs {least_gb * number:.1f} GB of memory at {least_gb:g} GB each, but "
            f"this machine has {total_gb:.1f} GB: at most {max(1, int(total_gb / least_gb))}"
        )
    return number


def warning(number: int) -> str:
    """What the user should know about so many seats on this machine; empty when nothing."""
    cores = len(os.sched_getaffinity(0))
    if number <= cores or number == 1:
        return ""
    return f"{number} trainings share {cores} cores: they slow each other down, and numbers may move"


def share(number: int, seats: int, environ: Mapping[str, str]) -> Seat:
    """What belongs to seat `number` of so many. A single seat has the whole machine."""
    if seats == 1:
        return Seat()
    cores = sorted(os.sched_getaffinity(0))
    each = max(1, len(cores) // seats)
    first = number * each % len(cores)
    found = gpus(environ)
    return Seat(tuple(cores[first : first + each]), found[number % len(found)] if found else None)


def gpus(environ: Mapping[str, str]) -> list[Gpu]:
    """The NVIDIA GPUs that trainings may use: all of them, or those that CUDA_VISIBLE_DEVICES names."""
    every = _by_driver() or _by_devices()
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return every
    names = [name.strip() for name in wanted.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return [_named(name, every) for name in names]


def _named(name: str, every: Collection[Gpu]) -> Gpu:
    """The GPU that CUDA knows by this name: an index, or the beginning of a UUID."""
    for index, gpu in enumerate(every):
        if name == str(index) or (name.startswith("GPU-") and gpu.id.startswith(name)):
            return gpu
    return Gpu(name)  # such as a part of a GPU (MIG)


def _by_driver() -> list[Gpu]:
    """The GPUs as the driver lists them; empty without one."""
    with contextlib.suppress(Exception):  # NVML's errors are made at run time and have no importable base
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [
            Gpu(
                str(pynvml.nvmlDeviceGetUUID(handle)),
                int(pynvml.nvmlDeviceGetMinorNumber(handle)),
                str(pynvml.nvmlDeviceGetName(handle)),
            )
            for handle in handles
        ]
    return []


def _by_devices() -> list[Gpu]:
    """The GPUs that have a device file, where the driver cannot be asked."""
    minors = sorted(int(m[1]) for path in DEVICES.glob("nvidia*") if (m := GPU_DEVICE.fullmatch(path.name)))
    return [Gpu(str(index), minor) for index, minor in enumerate(minors)]

"""Measures the machine for the status line: processor, memory, and the GPU if NVML can read it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psutil

from loop.events import Telemetry

EVERY_S = 2.0
"""Seconds between two measurements."""


async def watch(show: Callable[[Telemetry], None]) -> None:
    """Call `show` with a measurement every `EVERY_S` seconds, until cancelled."""
    gpu = _open_gpu()
    psutil.cpu_percent()  # the next call says what was used since this one
    while True:
        await asyncio.sleep(EVERY_S)
        memory = psutil.virtual_memory()
        used = (memory.total - memory.available) / 2**30
        show(Telemetry(psutil.cpu_percent(), used, memory.total / 2**30, **_read_gpu(gpu)))


def gpu_name() -> str | None:
    """Name of the first GPU; None when there is none or NVML cannot read it."""
    name = _read_gpu(_open_gpu()).get("gpu_name")
    return str(name) if name else None


def _open_gpu() -> tuple[Any, Any] | None:
    """The pynvml module and its handle of the first GPU; None when there is none."""
    with contextlib.suppress(Exception):  # NVML's errors are made at run time and have no importable base
        import pynvml

        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    return None


def _read_gpu(gpu: tuple[Any, Any] | None) -> dict[str, Any]:
    """The fields of `Telemetry` about the GPU; empty when there is none or it does not answer."""
    if gpu is None:
        return {}
    nvml, handle = gpu
    with contextlib.suppress(Exception):  # a GPU that no longer answers must not stop the engine
        return {
            "gpu_name": str(nvml.nvmlDeviceGetName(handle)),
            "gpu_percent": float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "gpu_memory_gb": nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**30,
            "gpu_temperature_c": float(nvml.nvmlDeviceGetTemperature(handle, 0)),
            "gpu_power_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        }
    return {}

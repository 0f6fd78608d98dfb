"""The machine's figures for the status line: processor and memory, and the GPU where NVML answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psutil

from loop.events import Telemetry

EVERY_S = 2.0


async def watch(show: Callable[[Telemetry], None]) -> None:
    """Show the machine's figures until cancelled."""
    gpu = _open_gpu()
    psutil.cpu_percent()
    while True:
        await asyncio.sleep(EVERY_S)
        memory = psutil.virtual_memory()
        used = (memory.total - memory.available) / 2**30
        show(Telemetry(psutil.cpu_percent(), used, memory.total / 2**30, **_read_gpu(gpu)))


def gpu_name() -> str | None:
    """Name of the first GPU, None where there is none or NVML does not answer."""
    name = _read_gpu(_open_gpu()).get("gpu_name")
    return str(name) if name else None


def _open_gpu() -> tuple[Any, Any] | None:
    """NVML and the first GPU, None where there is none."""
    with contextlib.suppress(Exception):  # NVML's errors are made at run time and have no importable base
        import pynvml

        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    return None


def _read_gpu(gpu: tuple[Any, Any] | None) -> dict[str, Any]:
    if gpu is None:
        return {}
    nvml, handle = gpu
    with contextlib.suppress(Exception):  # a GPU that stops answering must not stop the engine
        return {
            "gpu_name": str(nvml.nvmlDeviceGetName(handle)),
            "gpu_percent": float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "gpu_memory_gb": nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**30,
            "gpu_temperature_c": float(nvml.nvmlDeviceGetTemperature(handle, 0)),
            "gpu_power_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        }
    return {}

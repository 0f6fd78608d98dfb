"""Measures the machine for the screen: processor, memory, the engine's share, and GPUs if NVML reads them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psutil

from loop.events import Gpu, Telemetry

EVERY_S = 5.0
"""Seconds between two measurements: each is sent to every screen, some of them over slow lines."""


async def watch(show: Callable[[Telemetry], None]) -> None:
    """Call `show` with a measurement every `EVERY_S` seconds, until cancelled."""
    engine, gpus = psutil.Process(), _open_gpus()
    engine.cpu_percent()  # as the next one, it says the next time what was used since this call
    psutil.cpu_percent()
    while True:
        await asyncio.sleep(EVERY_S)
        show(_measure(engine, gpus))


def _measure(engine: psutil.Process, gpus: tuple[Any, list[Any]] | None) -> Telemetry:
    memory = psutil.virtual_memory()
    return Telemetry(
        psutil.cpu_percent(),
        round((memory.total - memory.available) / 2**30, 2),
        round(memory.total / 2**30, 2),
        _read_gpus(gpus),
        engine.cpu_percent(),
        round(engine.memory_info().rss / 2**30, 2),
    )


def gpu_name() -> str | None:
    """Name of the first GPU; None when there is none or NVML cannot read it."""
    found = _read_gpus(_open_gpus())
    return found[0].name or None if found else None


def _open_gpus() -> tuple[Any, list[Any]] | None:
    """The pynvml module and its handles of all GPUs; None when there are none."""
    with contextlib.suppress(Exception):  # NVML's errors are made at run time and have no importable base
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        return (pynvml, [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]) if count else None
    return None


def _read_gpus(gpus: tuple[Any, list[Any]] | None) -> list[Gpu]:
    """One entry for each GPU, with what it tells."""
    if gpus is None:
        return []
    nvml, handles = gpus
    return [_read(nvml, handle) for handle in handles]


def _read(nvml: Any, handle: Any) -> Gpu:
    def figure(ask: Callable[[], float]) -> float | None:
        with contextlib.suppress(Exception):  # it does not measure this, or does not answer any more
            return round(float(ask()), 1)
        return None

    name = ""
    with contextlib.suppress(Exception):
        name = str(nvml.nvmlDeviceGetName(handle))
    return Gpu(
        name,
        figure(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        figure(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**30),
        figure(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30),
        figure(lambda: nvml.nvmlDeviceGetTemperature(handle, 0)),
        figure(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        figure(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000),
    )

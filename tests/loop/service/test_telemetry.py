"""What is measured of the machine."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from loop.events import Telemetry
from loop.service import telemetry


class Nvml:
    """NVML as pynvml offers it, with one GPU."""

    name = "NVIDIA H100"

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self.name

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=97)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=60 * 2**30)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 650_000


async def measured() -> Telemetry:
    """The first measurement of `watch`."""
    found: asyncio.Queue[Telemetry] = asyncio.Queue()
    watching = asyncio.create_task(telemetry.watch(found.put_nowait))
    try:
        async with asyncio.timeout(30):
            return await found.get()
    finally:
        watching.cancel()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "EVERY_S", 0.05)


@pytest.mark.usefixtures("quick")
async def test_without_a_gpu_processor_and_memory_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = await measured()
    assert 0 <= found.cpu_percent <= 100
    assert 0 < found.memory_gb < found.memory_total_gb
    assert found.memory_total_gb == psutil.virtual_memory().total / 2**30
    assert not found.gpu_name
    assert telemetry.gpu_name() is None


@pytest.mark.usefixtures("quick")
async def test_a_gpu_is_measured_through_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    found = await measured()
    assert (found.gpu_name, found.gpu_percent, found.gpu_memory_gb) == ("NVIDIA H100", 97.0, 60.0)
    assert (found.gpu_temperature_c, found.gpu_power_w) == (61.0, 650.0)
    assert telemetry.gpu_name() == "NVIDIA H100"


@pytest.mark.usefixtures("quick")
async def test_a_gpu_that_stops_answering_does_not_end_the_measurements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(nvml: Nvml, handle: int) -> str:
        raise RuntimeError("GPU is lost")

    monkeypatch.setattr(Nvml, "nvmlDeviceGetName", lost)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    found = await measured()
    assert found.memory_total_gb > 0
    assert not found.gpu_name

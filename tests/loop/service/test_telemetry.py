"""What is measured of the machine."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from loop.events import Gpu, Telemetry
from loop.service import telemetry


class Nvml:
    """NVML as pynvml offers it, with two GPUs. They do not say what power they may use at most."""

    name = "NVIDIA H100"

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self.name

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=97)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=(60 + handle) * 2**30, total=80 * 2**30)

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
    assert found.memory_total_gb == round(psutil.virtual_memory().total / 2**30, 2)
    assert found.engine_cpu_percent >= 0
    assert 0.01 < found.engine_memory_gb < found.memory_total_gb
    assert found.gpus == []
    assert telemetry.gpu_name() is None


@pytest.mark.usefixtures("quick")
async def test_all_gpus_are_measured_through_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    found = await measured()
    assert found.gpus == [Gpu("NVIDIA H100", 97.0, 60.0 + i, 80.0, 61.0, 650.0, None) for i in range(2)]
    assert telemetry.gpu_name() == "NVIDIA H100"


@pytest.mark.usefixtures("quick")
async def test_a_gpu_that_stops_answering_does_not_end_the_measurements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(nvml: Nvml, handle: int) -> str:
        if handle == 0:
            raise RuntimeError("GPU is lost")
        return nvml.name

    for name in [name for name in dir(Nvml) if name.startswith("nvmlDeviceGet")][2:]:
        monkeypatch.setattr(Nvml, name, lost)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    found = await measured()
    assert found.memory_total_gb > 0
    assert found.gpus[0] == Gpu()

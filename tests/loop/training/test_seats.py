"""Seats on this machine: how many, and what belongs to each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loop.config import AUTO, Settings
from loop.errors import UsageError
from loop.records.training_folder import Fence
from loop.training import seats
from loop.training.seats import Gpu, Seat

EIGHT = [Gpu(f"GPU-{i}000-ab", minor=7 - i, name="H100") for i in range(8)]
"""NVML lists GPUs by their bus; the numbers of their devices may come in another order."""


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "_by_driver", lambda: EIGHT)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(seats, "_by_driver", lambda: [])
    monkeypatch.setattr(seats, "DEVICES", tmp_path)


@pytest.mark.usefixtures("eight")
def test_auto_is_one_seat_for_each_gpu_that_is_visible() -> None:
    assert seats.capacity(Settings(workers=AUTO), {}) == 8
    assert seats.capacity(Settings(workers=AUTO), {"CUDA_VISIBLE_DEVICES": "2,3"}) == 2
    assert seats.capacity(Settings(workers=AUTO, workers_per_gpu=2), {"CUDA_VISIBLE_DEVICES": "2"}) == 2
    assert seats.capacity(Settings(workers=3), {}) == 3


@pytest.mark.usefixtures("no_gpu")
def test_auto_on_a_processor_is_one_seat() -> None:
    assert seats.capacity(Settings(workers=AUTO), {}) == 1
    assert seats.capacity(Settings(workers=2), {}) == 2


@pytest.mark.usefixtures("eight")
def test_several_trainings_share_a_gpu_only_where_that_is_asked_for() -> None:
    with pytest.raises(UsageError, match=r"--workers 9, but this machine has 8 GPUs: at most 8, or set"):
        seats.capacity(Settings(workers=9), {})
    with pytest.raises(UsageError, match="has 1 GPU: at most 1"):
        seats.capacity(Settings(workers=2), {"CUDA_VISIBLE_DEVICES": "5"})
    assert seats.capacity(Settings(workers=9, workers_per_gpu=2), {}) == 9


@pytest.mark.usefixtures("no_gpu")
def test_more_seats_than_the_memory_has_room_for_are_refused_in_one_sentence() -> None:
    total_gb = psutil.virtual_memory().total / 2**30
    with pytest.raises(UsageError, match=r"--workers 4 needs .* GB each, but this machine has .*: at most 2"):
        seats.capacity(Settings(workers=4, memory_gb=total_gb / 2.5), {})
    assert seats.capacity(Settings(workers=2, memory_gb=total_gb / 2.5), {}) == 2


@pytest.mark.usefixtures("eight")
def test_a_seat_has_its_own_gpu_and_the_devices_of_no_other() -> None:
    seat = seats.share(2, 8, {})
    assert seat.variables()["CUDA_VISIBLE_DEVICES"] == "GPU-2000-ab"
    shared = ["/dev/null", "/dev/nvidiactl", "/dev/nvidia-uvm"]
    fence = Fence(devices=[*shared, *(f"/dev/nvidia{minor}" for minor in range(8))])
    assert seat.narrowed(fence).devices == [*shared, "/dev/nvidia5"]
    assert {seats.share(i, 8, {}).gpu for i in range(8)} == set(EIGHT)
    named = seats.share(0, 2, {"CUDA_VISIBLE_DEVICES": "GPU-6,MIG-7"})
    assert named.gpu == EIGHT[6]
    part = seats.share(1, 2, {"CUDA_VISIBLE_DEVICES": "GPU-6,MIG-7"})
    assert (part.gpu, part.narrowed(fence)) == (Gpu("MIG-7"), fence)


@pytest.mark.usefixtures("eight")
def test_a_single_seat_has_the_whole_machine() -> None:
    seat = seats.share(0, 1, {})
    assert (seat, seat.variables(), seat.narrowed(Fence(devices=["/dev/nvidia0"])).devices) == (
        Seat(), {}, ["/dev/nvidia0"],
    )  # fmt: skip


def test_without_a_driver_the_device_files_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(seats, "_by_driver", lambda: [])
    monkeypatch.setattr(seats, "DEVICES", tmp_path)
    for name in ("nvidia0", "nvidia2", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert seats.gpus({}) == [Gpu("0", 0), Gpu("1", 2), Gpu("2", 10)]


@pytest.mark.usefixtures("no_gpu")
def test_the_cores_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert [seats.share(i, 3, {}).cores for i in range(3)] == [
        (0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (10, 11, 12, 13, 14),
    ]  # fmt: skip
    assert seats.share(1, 3, {}).variables() == {"OMP_NUM_THREADS": "5"}
    assert {seats.share(i, 32, {}).cores for i in range(32)} == {(i,) for i in range(16)}
    assert seats.warning(16) == seats.warning(1) == ""
    assert "32 trainings share 16 cores" in seats.warning(32)


def test_a_process_and_what_it_starts_keep_to_the_cores() -> None:
    core = min(os.sched_getaffinity(0))
    code = "import os, subprocess, sys; sys.stdin.read(); print(len(os.sched_getaffinity(0)), flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    Seat((core,)).settle(process.pid)
    assert process.communicate("")[0] == "1\n"
    Seat((core,)).settle(process.pid)  # it is gone

"""What torch says of the machine, in a process of the trainer's own Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loop.training import gpu
from loop.training.gpu import Facts


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an NVIDIA driver, whose devices are not made yet."""
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(gpu, "MEMORY_NODE", tmp_path / "nvidia-uvm")
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Thu\n")
    return tmp_path


def program(folder: Path, name: str, code: str) -> str:
    """An executable script in a folder of programs."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)
    return str(path)


def test_the_trainer_s_own_torch_is_asked() -> None:
    found = gpu.ask(sys.executable, {"PATH": "/usr/bin"})
    assert found.torch
    assert not found.problem
    assert str(found) == f"CPU, driver none, torch {found.torch}"


def test_a_python_without_torch_is_a_problem_in_one_line(tmp_path: Path) -> None:
    python = program(tmp_path, "python", f'exec {sys.executable} -S "$@"')
    assert gpu.ask(python, {}).problem == "torch cannot be used: ModuleNotFoundError: No module named 'torch'"
    assert "cannot be asked" in gpu.ask(str(tmp_path / "none"), {}).problem
    assert "it ended" in gpu.ask(program(tmp_path, "python3", "exit 3"), {}).problem


async def test_where_there_is_no_gpu_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "none")
    assert await gpu.check([sys.executable, "train.py"]) is None


async def test_what_is_found_about_a_gpu_is_taken_as_it_is_said(driver: Path) -> None:
    said = '{"torch": "2.13.0+cu130", "cuda": "13.0", "driver": "550.1", "problem": "needs driver 580"}'
    python = program(driver, "python", f"echo noise; echo '{said}'")
    assert await gpu.check([python, "train.py"]) == Facts(
        "2.13.0+cu130", "13.0", "550.1", problem="needs driver 580"
    )
    assert await gpu.check(["./train.sh"]) is None


def test_a_missing_device_is_made_by_nvidias_own_program(driver: Path) -> None:
    program(driver, "nvidia-modprobe", f'echo "$@" >> {driver}/asked; touch {gpu.MEMORY_NODE}')
    gpu.make_devices(str(driver))
    gpu.make_devices(str(driver))  # it is there now
    assert (driver / "asked").read_text() == "-u -c0\n"

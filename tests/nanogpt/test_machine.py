"""machine.py: what is said where a GPU cannot be used, and the peak speed of a device."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import machine
import pytest
import torch
from machine import cpu_flops, peak_flops, peak_of

import prepare

NANOGPT = Path(machine.__file__).parent
PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Sep 5 09:00:00 UTC 2024\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder)\n"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an NVIDIA driver of version 580.65.06, its devices, and torch built for CUDA 13."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(machine, "WINDOWS_DRIVER", tmp_path / "libcuda.so.1")
    monkeypatch.setattr(machine, "NODES", (str(tmp_path / "nvidiactl"), str(tmp_path / "nvidia-uvm")))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "version").write_text(PROPRIETARY.format("580.65.06"))
    for node in machine.NODES:
        Path(node).touch()
    return tmp_path


# --- a GPU that cannot be used ---


@pytest.mark.parametrize("text", [PROPRIETARY, OPEN])
def test_an_old_driver_is_named_with_the_one_that_is_needed_and_the_build_that_fits(
    fake: Path, text: str
) -> None:
    machine.DRIVER.write_text(text.format("550.54.15"))
    said = machine.problem()
    assert (
        "built for CUDA 13.0, which needs NVIDIA driver 580 or newer, and this machine has 550.54.15" in said
    )
    assert "--torch-backend=cu126" in said
    assert said.endswith("or set CUDA_VISIBLE_DEVICES= to train on the CPU")
    with pytest.raises(SystemExit, match="needs NVIDIA driver 580"):
        machine.device()


def test_for_a_driver_that_no_build_works_with_none_is_offered(fake: Path) -> None:
    machine.DRIVER.write_text(PROPRIETARY.format("470.256.02"))
    assert "has 470.256.02: update the driver; or set" in machine.problem()


def test_a_torch_for_cpus_beside_a_gpu_is_said(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    said = machine.problem()
    assert "is built for CPUs" in said
    assert "--torch-backend=cu130" in said


def test_a_missing_device_is_said_with_what_makes_it(fake: Path) -> None:
    Path(machine.NODES[1]).unlink()
    assert f"{machine.NODES[1]} is missing: run `nvidia-modprobe -u -c0` as root" in machine.problem()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-1, "libcuda.so.1 is missing"),
        (100, "sees no GPU"),
        (304, "was refused something"),
        (802, "fabric manager"),
        (803, "restart the machine"),
        (46, "cuInit: 46"),
    ],
)
def test_an_error_of_the_driver_is_said_in_words(
    fake: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    monkeypatch.setattr(machine, "start_driver", lambda: code)
    assert words in machine.problem()


def test_a_driver_that_starts_while_torch_does_not_leaves_the_word_to_torch(
    fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise RuntimeError("no luck\ntoday")

    monkeypatch.setattr(machine, "start_driver", lambda: 0)
    monkeypatch.setattr(torch.cuda, "init", fails)
    assert "no luck today" in machine.problem()


def test_a_gpu_that_is_older_than_the_build_is_said(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "compute_120"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    assert "compute capability 7.5 or newer, and Tesla V100 has 7.0" in machine.problem()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert machine.problem() == ""
    assert machine.device() == torch.device("cuda")


def test_data_and_device_follow_the_same_fact(
    fake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path))
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    assert prepare.chosen() == "climbmix"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert prepare.chosen() == "sympy"
    assert machine.device() == torch.device("cpu")


def test_under_windows_the_driver_s_library_tells_of_the_gpu(fake: Path) -> None:
    machine.DRIVER.unlink()
    assert not machine.has_gpu()
    machine.WINDOWS_DRIVER.touch()
    assert machine.has_gpu()


def test_a_training_ends_with_the_sentence_and_no_traceback(tmp_path: Path) -> None:
    driver = tmp_path / "version"
    driver.write_text(PROPRIETARY.format("550.54.15"))
    code = (
        "import machine, pathlib, sys, torch\n"
        f"machine.DRIVER = pathlib.Path({str(driver)!r})\n"
        "torch.version.cuda = '13.0'\n"
        "import train\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=NANOGPT, capture_output=True, text=True, env={"PATH": "/usr/bin"}
    )
    assert done.returncode == 1
    assert "COUNT_ORDER" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert "needs NVIDIA driver 580 or newer, and this machine has 550.54.15" in done.stderr


# --- what the engine asks ---


def test_as_a_program_it_says_what_is_here(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(NANOGPT / "machine.py")], cwd=tmp_path, capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["torch"] == torch.__version__
    assert set(found) == {"torch", "cuda", "driver", "gpu", "memory_gb", "problem", "compiler"}


def test_what_is_missing_to_compile_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.no_compiler().startswith("no C compiler: install gcc")
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    assert machine.no_compiler().startswith(f"{tmp_path}/Python.h is missing")
    (tmp_path / "Python.h").touch()
    assert machine.no_compiler() == ""


# --- speed ---


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA B200", 2250),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA A10", 125),
        ("NVIDIA GeForce RTX 4090", 165),
    ],
)
def test_a_known_gpu_has_the_peak_of_its_data_sheet(name: str, tflops: int) -> None:
    assert peak_of(name) == tflops * 1e12


@pytest.mark.parametrize("name", ["NVIDIA A10G", "NVIDIA L40", "NVIDIA GB200", "Tesla T4", ""])
def test_a_gpu_that_only_has_a_similar_name_has_no_known_peak(name: str) -> None:
    assert peak_of(name) is None


def test_only_a_gpu_has_a_peak() -> None:
    assert peak_flops(torch.device("cpu")) is None
    assert peak_flops(torch.device("mps")) is None


def test_the_measured_speed_of_this_cpu_is_one_that_a_cpu_can_have() -> None:
    assert 1e8 < cpu_flops(torch.float32) < 1e14

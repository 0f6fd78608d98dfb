"""The device that trains, why a GPU of this machine cannot be used, and the peak speed of the device.

    python machine.py    prints what is here as JSON (`facts`), and runs without the rest of this folder

Data, hyperparameters and everything else that differs between GPU and CPU follow `device` and `has_gpu`: on a
machine with an NVIDIA GPU both mean the GPU, or the program ends with a sentence that says what is missing.
Agents may read this file but never change it.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

DRIVER = Path("/proc/driver/nvidia/version")
"""Exists where the driver of an NVIDIA GPU is loaded."""
WINDOWS_DRIVER = Path("/usr/lib/wsl/lib/libcuda.so.1")
"""The driver of an NVIDIA GPU below Windows (WSL)."""
NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
"""Devices that CUDA needs besides the GPU's own."""
LEAST_DRIVER = {13: 580, 12: 525, 11: 450}
"""The oldest NVIDIA driver that each version of CUDA works with (NVIDIA's "CUDA Compatibility")."""
REASONS = {
    -1: "the driver's library libcuda.so.1 is missing: start the container with all GPUs, or install it",
    100: "the driver sees no GPU: start the container with all GPUs, or look at `nvidia-smi`",
    304: "the driver was refused something by the system, mostly a file in /proc or a device in /dev",
    802: "the GPU's links are not set up: start NVIDIA's fabric manager of the driver's own version",
    803: "the driver's library and its kernel module have different versions: restart the machine",
    804: "the container's CUDA is newer than the driver allows: update the driver or take an older image",
    999: "the driver failed: look at `dmesg`, and restart the machine",
}
"""What errors of cuInit mean (cuda.h, CUresult)."""


# --- the device ---


def has_gpu() -> bool:
    """Whether to train on an NVIDIA GPU: it has a driver, and CUDA_VISIBLE_DEVICES does not hide it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    return not hidden and (DRIVER.exists() or WINDOWS_DRIVER.exists())


def device() -> torch.device:
    """Return the device to train on. Ends the program with a sentence if a GPU is here and cannot be used."""
    import torch

    if has_gpu() and (reason := problem()):
        sys.exit(reason)
    mps = torch.backends.mps.is_available()
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")


def problem() -> str:
    """Say in a sentence why torch cannot use the NVIDIA GPU, and what to do; empty if it can."""
    import torch

    cpu = "set CUDA_VISIBLE_DEVICES= to train on the CPU"
    if torch.version.cuda is None:
        return (
            f"there is an NVIDIA GPU, but torch {torch.__version__} is built for CPUs: {_install('cu130')} "
            f"({_install('cu126')} for a driver older than 580), or {cpu}"
        )
    if torch.cuda.is_available():
        return _too_old()
    return f"CUDA cannot be used: {_cause(torch.version.cuda)}; or {cpu}"


def _cause(cuda: str) -> str:
    """Say why CUDA does not start; `cuda` is the version of it that torch was built for."""
    import torch

    found, least = driver(), LEAST_DRIVER.get(int(cuda.split(".")[0]), 0)
    number = int(found.split(".")[0]) if found else least
    if number < least:
        other = f", or {_install('cu126')}" if number >= LEAST_DRIVER[12] else ""
        return (
            f"torch {torch.__version__} is built for CUDA {cuda}, which needs NVIDIA driver {least} or newer"
            f", and this machine has {found}: update the driver{other}"
        )
    if not WINDOWS_DRIVER.exists() and (missing := [path for path in NODES if not os.path.exists(path)]):
        return (
            f"{missing[0]} is missing: run `nvidia-modprobe -u -c0` as root, or start the container with "
            "all GPUs (docker: --gpus all)"
        )
    if code := start_driver():
        return REASONS.get(code, f"the driver does not start (cuInit: {code}): look at `nvidia-smi`")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # torch has many reasons, and says them better than a guess of ours
        return " ".join(str(error).split())[:200]
    return "torch does not say why: look at `nvidia-smi`"


def _too_old() -> str:
    """Say that the GPU is older than what this build of torch can compute on; empty if it is not."""
    import torch

    known = [int(arch[3:]) for arch in torch.cuda.get_arch_list() if re.fullmatch(r"sm_\d+", arch)]
    major, minor = torch.cuda.get_device_capability()
    if not known or 10 * major + minor >= min(known):
        return ""
    return (
        f"torch {torch.__version__} is built for GPUs of compute capability {min(known) / 10} or newer, and "
        f"{torch.cuda.get_device_name()} has {major}.{minor}: {_install('cu126')}"
    )


def _install(build: str) -> str:
    """How to install another build of the same torch."""
    import torch

    version = torch.__version__.split("+")[0]
    return (
        f"install its {build} build (`pip install uv && uv pip install --python {sys.executable} "
        f"--reinstall-package torch torch=={version} --torch-backend={build}`)"
    )


def driver() -> str:
    """Return the version of the NVIDIA driver, such as 580.65.06; empty where it is not known."""
    try:
        found = re.search(r"\s(\d{3}\.\d+(?:\.\d+)?)\s", DRIVER.read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def start_driver() -> int:
    """Start the driver in this process and return its error code; 0: it works, -1: it has no library."""
    for name in ("libcuda.so.1", str(WINDOWS_DRIVER)):
        try:
            return int(ctypes.CDLL(name).cuInit(0))
        except OSError:
            continue
    return -1


# --- compiling ---


def no_compiler() -> str:
    """Say what is missing to compile for a GPU; empty if nothing is.

    Triton, which torch.compile uses, builds a small C module that talks to the driver.
    """
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "no C compiler: install gcc (Debian: apt-get install gcc), else everything runs uncompiled"
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # Debian's own; as Triton
    folder = sysconfig.get_path("include", scheme)
    if not Path(folder, "Python.h").exists():
        return (
            f"{folder}/Python.h is missing: install Python's headers (Debian: apt-get install python3-dev), "
            "else everything runs uncompiled"
        )
    return ""


# --- speed ---

PEAK_TFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 5090": 210,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Peak of dense bf16 matrix products in TFLOP/s, from the makers' data sheets, by a part of the GPU's name.

MFU (model FLOPs utilisation) is the share of it that training reaches. The first entry that fits counts. For
a GPU that is not listed no MFU is shown, because a guess would mislead.
"""


def peak_flops(device: torch.device) -> float | None:
    """Return the peak speed of a GPU in FLOP/s, or None where it is not known."""
    import torch

    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of(name: str) -> float | None:
    """Return the peak speed in FLOP/s of the GPU with this name, or None where it is not known."""
    # Whole words: an A10G is no A10, and an L40 is no L4.
    return next((peak * 1e12 for part, peak in PEAK_TFLOPS.items() if re.search(rf"\b{part}\b", name)), None)


def cpu_flops(dtype: torch.dtype) -> float:
    """Measure the speed of matrix products on this CPU in FLOP/s; takes some hundredths of a second."""
    import torch

    x = torch.randn(512, 512, dtype=dtype, device="cpu")
    x @ x
    started = time.perf_counter()
    for _ in range(10):
        x @ x
    return 10 * 2 * 512**3 / (time.perf_counter() - started)  # a product of n x n matrices takes 2 n^3 FLOPs


# --- for the engine ---


def facts() -> dict[str, Any]:
    """Return what is here. `problem` says why a GPU cannot be used, `compiler` what is missing to compile."""
    import torch

    reason = problem() if has_gpu() else ""
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "",
        "driver": driver(),
        "gpu": "",
        "memory_gb": 0.0,
        "problem": reason,
        "compiler": "",
    }
    if torch.cuda.is_available() and not reason:
        found["gpu"] = torch.cuda.get_device_name()
        found["memory_gb"] = torch.cuda.get_device_properties(0).total_memory / 2**30
        found["compiler"] = no_compiler()
    return found


if __name__ == "__main__":
    print(json.dumps(facts()))

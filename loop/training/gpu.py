"""What this machine's GPU and the trainer's torch are, and whether they fit together.

The engine does not import torch: nanogpt/machine.py says it, in a process of the Python that trains. That is
the same file whose sentences a training ends with, also for a trainer that is not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from loop.text import one_line, tail
from loop.training import fence

PROGRAM = Path(__file__).parents[2] / "nanogpt/machine.py"
DRIVER = Path("/proc/driver/nvidia/version")
WINDOWS_DRIVER = Path("/usr/lib/wsl/lib/libcuda.so.1")
"""One of them exists where an NVIDIA GPU has its driver; the second below Windows."""
MEMORY_NODE = Path("/dev/nvidia-uvm")
"""A device that CUDA needs, and that often nobody has made since the machine was started."""
PATIENCE_S = 120.0
"""How long torch may take to say what it finds; its first import on a slow disk takes most of a minute."""


class Facts(msgspec.Struct, frozen=True):
    """What nanogpt/machine.py says of the machine."""

    torch: str = ""
    """Its version; empty when the Python that trains has none."""
    cuda: str = ""
    """The version of CUDA that torch is built for; empty: none."""
    driver: str = ""
    gpu: str = ""
    """Name of the GPU that torch uses; empty: none."""
    memory_gb: float = 0.0
    problem: str = ""
    """Why the GPU cannot be used, and what to do, in a sentence."""
    compiler: str = ""
    """What is missing to compile for the GPU, in a sentence."""

    def __str__(self) -> str:
        where = f"{self.gpu}, {self.memory_gb:.0f} GB" if self.gpu else "CPU"
        return f"{where}, driver {self.driver or 'none'}, torch {self.torch or 'none'}"


def has_driver() -> bool:
    """Whether there is an NVIDIA GPU with a driver, which training is then meant for."""
    return DRIVER.exists() or WINDOWS_DRIVER.exists()


def python_of(command: list[str]) -> str | None:
    """The Python that starts a training with this command; None when it is started by something else."""
    return command[0] if command and Path(command[0]).name.startswith("python") else None


def ask(python: str, environ: Mapping[str, str]) -> Facts:
    """Ask torch, in a process of this Python. Never raises: what goes wrong there is the `problem`."""
    try:
        done = subprocess.run(
            [python, "-I", str(PROGRAM)],
            env=fence.environment(environ, {}),
            capture_output=True,
            timeout=PATIENCE_S,
        )
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Facts)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Facts(problem=f"torch cannot be asked: {one_line(str(error), 200)}")
    except (IndexError, msgspec.MsgspecError):
        lines = tail(done.stderr.decode("utf-8", "replace")).strip().splitlines()
        return Facts(problem=f"torch cannot be used: {one_line(lines[-1], 300) if lines else 'it ended'}")


async def check(command: list[str]) -> Facts | None:
    """What `ask` finds for a training's command; None where there is no GPU or no Python to ask.

    Devices that only need to be made are made first.
    """
    python = python_of(command)
    if not has_driver() or python is None:
        return None
    await asyncio.to_thread(make_devices)
    return await asyncio.to_thread(ask, python, os.environ)


def make_devices(path: str | None = None) -> None:
    """Let NVIDIA's own program make the devices that CUDA needs, where the driver has not made them.

    It is a setuid program, so behind the fence (no new privileges) it could not. `path` is where programs are
    looked for; None: the PATH.
    """
    program = shutil.which("nvidia-modprobe", path=path)
    if program and not MEMORY_NODE.exists():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([program, "-u", "-c0"], capture_output=True, timeout=30)

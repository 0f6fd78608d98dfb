"""Makes ready what a training needs before it runs without network: packages, kernels, and the training data.

The commands are the user's own code, so they run with network and without the fence around candidates.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path

from loop import events as ev
from loop.config import Settings
from loop.paths import RunPaths
from loop.text import clean
from loop.training import fence, gpu
from loop.training.executor import PrepareFailed, Show
from loop.training.gpu import Facts
from loop.training.programs import fetch_kernels

DOWNLOADING = (
    "HF_ENDPOINT", "HF_TOKEN", "HF_HOME", "UV_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
"""Names, or beginnings of names, of variables with a data hub's address and token, with uv's settings, and
with the way to the network. Only these commands get them, never a trainer."""


UV_HARMLESS = ("-q", "--quiet", "--no-sync", "--frozen", "--locked", "--offline", "--no-progress")
"""Flags of `uv run` that do not change which program it starts."""


def uv_environment(command: list[str], folder: Path) -> dict[str, str]:
    """Variables that make uv install the project's packages in `folder`; empty when the command is not uv's.

    It must not lie in the slot, where everything that is not in the commit is removed before each training.
    """
    return {"UV_PROJECT_ENVIRONMENT": str(folder)} if Path(command[0]).name == "uv" else {}


def uv_offline(uv: Mapping[str, str]) -> dict[str, str]:
    """Variables with which a program runs in the environment that uv has made (`uv_environment`), and uv, if
    it is started, installs nothing; empty when the command is not uv's."""
    if not uv:
        return {}
    folder = uv["UV_PROJECT_ENVIRONMENT"]
    path = f"{folder}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**uv, "UV_NO_SYNC": "1", "UV_OFFLINE": "1", "VIRTUAL_ENV": folder, "PATH": path}


def train_command(settings: Settings, paths: RunPaths) -> list[str]:
    """How a training is really started: what `uv run` would start is started without uv.

    CUDA writes to a file in its process's own folder in /proc, which the fence opens for the process that the
    supervisor starts, not for a child of uv's. A command of uv's with other flags is left as it is.
    """
    command = settings.command(settings.train_command)
    if Path(command[0]).name != "uv" or command[1:2] != ["run"]:
        return command
    words = command[2:]
    while words and words[0] in UV_HARMLESS:
        words = words[1:]
    programs = paths.venv / "bin"
    if not words or (words[0].startswith("-") and words[0] != "-m"):
        return command
    if words[0] == "-m" or words[0].endswith(".py"):
        return [str(programs / "python"), *words]
    if re.fullmatch(r"python[\d.]*", words[0]):
        return [str(programs / "python"), *words[1:]]
    return [str(programs / words[0]), *words[1:]]


def is_needed(settings: Settings) -> bool:
    """Whether `everything` would do anything on this machine."""
    uses_uv = Path(settings.train_command[0]).name == "uv"
    return uses_uv or bool(settings.prepare_command) or gpu.has_driver()


async def everything(
    settings: Settings, paths: RunPaths, folder: Path, show: Show, extra: Mapping[str, str]
) -> Facts | None:
    """Make ready whatever the settings ask for, in `folder`, which holds the repository's files.

    A GPU that cannot be used is said before anything is downloaded for it. Returns what is known of the GPU;
    None where there is none. Raises `PrepareFailed`.
    """
    uv = uv_environment(settings.train_command, paths.venv)
    command, extra = train_command(settings, paths), {**uv, **extra}
    if uv:
        await run(["uv", "sync"], folder, show, extra)
    found = await gpu.check(command)
    if found and found.problem:
        raise PrepareFailed(found.problem)
    python = gpu.python_of(command)
    if uv and python:  # to fetch a kernel runs its code, and only a repository that is trusted has uv
        program = str(Path(fetch_kernels.__file__))
        await run([python, "-I", program, settings.path], folder, show, extra)
    if settings.prepare_command:
        await run(settings.command(settings.prepare_command), folder, show, extra)
    return found


async def run(command: list[str], folder: Path, show: Show, extra: Mapping[str, str]) -> None:
    """Run the command in `folder` and show the last line of its output as it changes.

    Its environment is a trainer's, what a download needs, and `extra`. Raises `PrepareFailed`. When this is
    cancelled, the command is killed.
    """
    downloading = {name: value for name, value in os.environ.items() if name.startswith(DOWNLOADING)}
    environment = fence.environment(os.environ, {**downloading, **extra})
    show(ev.Preparing("preparing data"))
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        show(ev.Preparing(""))
        raise PrepareFailed(f"cannot start {command[0]}: {error.strerror}") from error
    try:
        last = await _show_output(process, show)
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    finally:
        show(ev.Preparing(""))
    if code != 0:
        raise PrepareFailed(f"preparing the data failed (exit code {code}): {last}")


async def _show_output(process: asyncio.subprocess.Process, show: Show) -> str:
    """Show each line that the process prints, until it closes its output; returns the last one."""
    assert process.stdout is not None, "stdout is a pipe"
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    last = rest = ""
    while chunk := await process.stdout.read(65536):
        *lines, rest = clean(rest + decode(chunk)).split("\n")
        rest = rest[:1000]  # the beginning of a line that is not complete yet
        printed = [line.strip()[:200] for line in [*lines, rest] if line.strip()]
        if printed and printed[-1] != last:
            last = printed[-1]
            show(ev.Preparing(last))
    return last

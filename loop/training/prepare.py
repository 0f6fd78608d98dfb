"""Preparing data: the repository's own command, once, with network and outside the candidates' fence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from loop import events as ev
from loop.text import clean
from loop.training import fence
from loop.training.executor import PrepareFailed, Show

HUB = ("HF_ENDPOINT", "HF_TOKEN", "HF_HOME", "UV_")
"""A data hub's address and token, and uv's settings: only preparation gets them, never a candidate."""


def uv_environment(command: list[str], folder: Path) -> dict[str, str]:
    """For a `uv run`: the project's packages in a folder of ours that stays, not in a slot that is swept."""
    return {"UV_PROJECT_ENVIRONMENT": str(folder)} if Path(command[0]).name == "uv" else {}


async def run(command: list[str], folder: Path, show: Show, extra: Mapping[str, str]) -> None:
    """Run the command, showing its last line as it goes. Raises `PrepareFailed`."""
    hub = {name: value for name, value in os.environ.items() if name.startswith(HUB)}
    environment = fence.environment(os.environ, {**hub, **extra})
    show(ev.Preparing("preparing data"))
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise PrepareFailed(f"cannot start {command[0]}: {error.strerror}") from error
    last = ""
    try:
        assert process.stdout is not None, "stdout is a pipe"
        while chunk := await process.stdout.read(65536):
            text = clean(chunk.decode("utf-8", "replace"))
            if lines := [line for line in text.splitlines() if line.strip()]:
                last = lines[-1].strip()[:200]
                show(ev.Preparing(last))
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

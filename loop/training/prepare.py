"""Makes the training data with the repository's own command.

The command is the user's own code, so it runs with network and without the fence around candidates.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from loop import events as ev
from loop.text import clean
from loop.training import fence
from loop.training.executor import PrepareFailed, Show

DOWNLOADING = ("HF_ENDPOINT", "HF_TOKEN", "HF_HOME", "UV_")
"""Names, or beginnings of names, of variables with a data hub's address and token and with uv's settings.
Only this command gets them, never a trainer."""


def uv_environment(command: list[str], folder: Path) -> dict[str, str]:
    """Variables that make uv install the project's packages in `folder`; empty when the command is not uv's.

    It must not lie in the slot, where everything that is not in the commit is removed before each training.
    """
    return {"UV_PROJECT_ENVIRONMENT": str(folder)} if Path(command[0]).name == "uv" else {}


def uv_offline(uv: Mapping[str, str]) -> dict[str, str]:
    """Variables with which uv uses what it has installed (`uv_environment`) and installs nothing; empty when
    the command is not uv's."""
    return {**uv, "UV_NO_SYNC": "1", "UV_OFFLINE": "1"} if uv else {}


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

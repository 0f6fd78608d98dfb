"""Preparing data with real commands."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop.training import prepare
from loop.training.executor import PrepareFailed


class Shown(list[str]):
    """The lines that were shown."""

    def __call__(self, event: ev.LiveEvent) -> None:
        assert isinstance(event, ev.Preparing)
        self.append(event.text)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def test_the_last_line_is_shown_as_it_changes_and_cleared_at_the_end(tmp_path: Path) -> None:
    code = "import time; print('one'); time.sleep(0.3); print('two\\r\\x1b[1mthree\\n')"
    shown = Shown()
    await prepare.run(python(code), tmp_path, shown, {})
    assert shown == ["preparing data", "one", "three", ""]


async def test_a_line_that_is_printed_in_pieces_is_put_together(tmp_path: Path) -> None:
    pieces = "for piece in ('no ', 'space'): sys.stdout.write(piece); time.sleep(0.1)"
    code = f"import sys, time\n{pieces}\nsys.exit(1)"
    shown = Shown()
    with pytest.raises(PrepareFailed, match=r": no space$"):
        await prepare.run(python(code), tmp_path, shown, {})
    assert shown[-2] == "no space"


async def test_it_runs_in_the_folder_with_what_a_download_needs_and_no_other_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "UV_INDEX", "ANTHROPIC_API_KEY", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "secret")
    wanted = "name for name, value in os.environ.items() if value in ('secret', 'given')"
    code = f"import os; print(os.getcwd(), *sorted({wanted}))"
    shown = Shown()
    await prepare.run(python(code), tmp_path, shown, {"EXTRA": "given"})
    assert shown[-2] == f"{tmp_path} EXTRA HF_TOKEN UV_INDEX"


async def test_a_failure_is_one_sentence_with_the_last_line(tmp_path: Path) -> None:
    shown = Shown()
    with pytest.raises(PrepareFailed) as failed:
        await prepare.run(python("print('a'); raise SystemExit('no space left')"), tmp_path, shown, {})
    assert str(failed.value) == "preparing the data failed (exit code 1): no space left"
    assert shown[-1] == ""


async def test_a_command_that_is_not_there_is_said(tmp_path: Path) -> None:
    shown = Shown()
    with pytest.raises(PrepareFailed) as failed:
        await prepare.run(["no-such-program"], tmp_path, shown, {})
    assert str(failed.value) == "cannot start no-such-program: No such file or directory"
    assert shown[-1] == ""


async def test_cancelling_kills_the_command_and_what_it_started(tmp_path: Path) -> None:
    child = "subprocess.Popen(['sleep', '600'])"
    code = f"import subprocess, time; print({child}.pid, flush=True); time.sleep(600)"
    shown = Shown()
    running = asyncio.create_task(prepare.run(python(code), tmp_path, shown, {}))
    async with asyncio.timeout(20):
        while not shown[-1:] or not shown[-1].isdigit():  # noqa: ASYNC110 - another process prints
            await asyncio.sleep(0.01)
    pid = int(shown[-1])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert shown[-1] == ""
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110 - it takes a moment
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("command", [["uv", "run", "train.py"], ["/usr/bin/uv", "run", "train.py"]])
def test_uv_keeps_packages_in_a_folder_that_stays(command: list[str], tmp_path: Path) -> None:
    assert prepare.uv_environment(command, tmp_path) == {"UV_PROJECT_ENVIRONMENT": str(tmp_path)}


def test_other_commands_get_no_folder_for_packages(tmp_path: Path) -> None:
    assert prepare.uv_environment(["python", "train.py"], tmp_path) == {}

"""Preparing data with real commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop.config import Settings
from loop.paths import RunPaths
from loop.training import gpu, prepare
from loop.training.executor import PrepareFailed
from loop.training.gpu import Facts


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


# --- uv ---


@pytest.mark.parametrize("command", [["uv", "run", "train.py"], ["/usr/bin/uv", "run", "train.py"]])
def test_uv_keeps_packages_in_a_folder_that_stays(command: list[str], tmp_path: Path) -> None:
    assert prepare.uv_environment(command, tmp_path) == {"UV_PROJECT_ENVIRONMENT": str(tmp_path)}


def test_other_commands_get_no_folder_for_packages(tmp_path: Path) -> None:
    assert prepare.uv_environment(["python", "train.py"], tmp_path) == {}


@pytest.mark.parametrize(
    ("command", "started"),
    [
        ("uv run train.py", "VENV/python train.py"),
        ("/opt/uv run --frozen -q train.py --fast", "VENV/python train.py --fast"),
        ("uv run python3.12 -u train.py", "VENV/python -u train.py"),
        ("uv run -m pkg.train", "VENV/python -m pkg.train"),
        ("uv run torchrun train.py", "VENV/torchrun train.py"),
        ("uv run --with numpy train.py", "uv run --with numpy train.py"),
        ("uv run", "uv run"),
        ("python train.py", "python train.py"),
    ],
)
def test_what_uv_would_start_is_started_without_it(tmp_path: Path, command: str, started: str) -> None:
    paths = RunPaths(tmp_path, "t")
    found = prepare.train_command(Settings(train_command=command.split()), paths)
    assert found == started.replace("VENV", str(paths.venv / "bin")).split()


def test_a_program_in_uvs_environment_finds_its_neighbours_and_installs_nothing(tmp_path: Path) -> None:
    found = prepare.uv_offline({"UV_PROJECT_ENVIRONMENT": str(tmp_path)})
    assert found["PATH"].startswith(f"{tmp_path}/bin:")
    assert (found["UV_OFFLINE"], found["VIRTUAL_ENV"]) == ("1", str(tmp_path))
    assert prepare.uv_offline({}) == {}


# --- all of it ---


async def test_a_gpu_that_cannot_be_used_is_said_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(command: list[str]) -> Facts:
        return Facts(problem="needs driver 580")

    monkeypatch.setattr(gpu, "check", check)
    settings = Settings(train_command=["python", "train.py"], prepare_command=["touch", "downloaded"])
    with pytest.raises(PrepareFailed, match="needs driver 580"):
        await prepare.everything(settings, RunPaths(tmp_path, "t"), tmp_path, Shown(), {})
    assert not (tmp_path / "downloaded").exists()


async def test_uv_installs_and_its_python_fetches_kernels_before_data_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv is a script here that makes a real environment; the package `kernels` notes what it is asked for."""
    paths, programs = RunPaths(tmp_path, "t"), tmp_path / "programs"
    programs.mkdir()
    uv = programs / "uv"
    uv.write_text(
        f'#!/bin/sh\n[ "$1" = run ] && echo "$2" >> order && exit\n'
        f'exec {sys.executable} -m venv --without-pip "$UV_PROJECT_ENVIRONMENT"\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "train.py").write_text("get_kernel('one/attention')\n")
    settings = Settings(
        train_command=["uv", "run", "train.py"], prepare_command=["uv", "run", "prepare.py"],
        editable=["train.py"],
    )  # fmt: skip
    with pytest.raises(PrepareFailed, match="the package `kernels` is missing"):
        await prepare.everything(settings, paths, tmp_path, Shown(), {})
    packages = next(paths.venv.glob("lib/python*/site-packages"))
    (packages / "kernels.py").write_text(
        "def get_kernel(name):\n    open('order', 'a').write(name + '\\n')\n"
    )
    await prepare.everything(settings, paths, tmp_path, Shown(), {})
    assert (tmp_path / "order").read_text() == "one/attention\nprepare.py\n"

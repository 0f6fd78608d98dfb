"""Trackers as processes: what they say is shown, and none of them holds up or ends the engine."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.service.tracking import Tracking
from tests.loop.scripted import until
from tests.loop.tracking.world import World

ROOT = Path(__file__).parents[3]


def broken(folder: Path) -> dict[str, str]:
    """An environment in which the package mlflow is there, but cannot be loaded."""
    folder.mkdir()
    (folder / "mlflow.py").write_text("raise OSError('no space left on this disk')\n")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "repo")


def test_a_missing_package_is_one_line_that_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--track wandb: pip install 'autoresearch-tui\[wandb\]'"):
        Tracking(["wandb"], RunPaths(tmp_path, "t"), print)


async def test_what_fails_and_what_dies_is_shown_and_the_end_is_quick(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    shown: list[ev.LiveEvent] = []
    tracking = Tracking(["mlflow"], world.paths, shown.append)
    environ = broken(tmp_path / "modules")
    await tracking.start(environ)
    await until(lambda: shown, 60)
    text = "mlflow: no space left on this disk; it is tried again, the research goes on"
    assert shown == [ev.Notice("error", text)]
    (process,) = psutil.Process().children()
    process.kill()
    await until(lambda: len(shown) == 2, 60)
    last = shown[1]
    assert isinstance(last, ev.Notice)
    assert last.text.startswith("mlflow: its process has ended (exit code -9, see ")
    await tracking.close(5)
    again = Tracking(["mlflow"], world.paths, shown.append)
    await again.start(environ)
    await until(lambda: len(shown) == 3, 60)
    async with asyncio.timeout(5):
        await again.close(10)
    assert len(shown) == 3
    assert psutil.Process().children() == []


def engine(repository: Path, *words: str) -> subprocess.Popen[str]:
    """An engine in the foreground that tracks with TensorBoard."""
    command = ["-m", "loop.cli", "run", "--headless", "--tag", "t", "--agent", "search", *words]
    return subprocess.Popen(
        [sys.executable, *command, "--track", "tensorboard"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def trackers(repository: Path) -> list[psutil.Process]:
    """Processes of trackers of this repository's runs."""
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if {"loop.tracking", str(repository)} <= set(p.info["cmdline"] or [])]


@pytest.mark.slow
async def test_an_engine_that_is_killed_and_goes_on_sends_everything_once(repository: Path) -> None:
    reason = "pip install 'autoresearch-tui[tensorboard]'"
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=reason)
    folder = RunPaths(repository, "t").folder / "tensorboard"
    killed = engine(repository, "--budget", "3")
    await until((folder / "0002").exists, 60)
    killed.kill()
    await until(lambda: not trackers(repository), 40)
    second = engine(repository, "--budget", "3", "--max-experiments", "4")
    assert second.wait(120) == 0, second.stderr and second.stderr.read()
    assert not trackers(repository)
    assert sorted(path.name for path in folder.iterdir()) == ["0001", "0002", "0003", "0004"]
    for path in folder.iterdir():
        events = reader.EventAccumulator(str(path)).Reload()
        assert len(events.Scalars("result/val_bpb")) == 1
        steps = [point.step for point in events.Scalars("train/loss")]
        assert steps == list(range(len(steps)))
        assert len(steps) in (4, 6, 8)  # as many as the trainer prints, whatever agent `search` made of it

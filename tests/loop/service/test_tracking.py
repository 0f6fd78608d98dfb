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
    await until(lambda: shown)
    text = "mlflow: no space left on this disk; it is tried again, the research goes on"
    assert shown == [ev.Notice("error", text)]
    (process,) = psutil.Process().children()
    process.kill()
    await until(lambda: len(shown) == 2)
    last = shown[1]
    assert isinstance(last, ev.Notice)
    assert last.text.startswith("mlflow: its process has ended (exit code -9, see ")
    await tracking.close()
    again = Tracking(["mlflow"], world.paths, shown.append)
    await again.start(environ)
    await until(lambda: len(shown) == 3)
    async with asyncio.timeout(5):
        await again.close()
    assert len(shown) == 3
    assert psutil.Process().children() == []


@pytest.mark.slow
def test_an_engine_sends_its_experiments(repository: Path) -> None:
    reason = "pip install 'autoresearch-tui[tensorboard]'"
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=reason)
    words = ["run", "--headless", "--tag", "t", "--agent", "search", "--max-experiments", "3"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "loop.cli", *words, "--track", "tensorboard"]
    found = subprocess.run(command, cwd=repository, env=environ, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    paths = RunPaths(repository, "t")
    folders = sorted((paths.folder / "tensorboard").iterdir())
    assert [folder.name for folder in folders] == ["0001", "0002", "0003"]
    for folder in folders:
        events = accumulator.EventAccumulator(str(folder)).Reload()
        assert len(events.Scalars("result/val_bpb")) == 1
        assert [s.step for s in events.Scalars("train/loss")] == [0, 1, 2, 3]
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(repository) in (p.info["cmdline"] or [])]

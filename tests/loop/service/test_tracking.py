"""Trackers as processes: what they say is shown, and none of them holds up or ends the engine."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records import journal
from loop.service.attach import engine_runs
from loop.service.tracking import Tracking
from tests.loop.scripted import until
from tests.loop.tracking.world import World

ROOT = Path(__file__).parents[3]


FAILS = "raise OSError('no space left on this disk')\n"


def broken(folder: Path, code: str = FAILS) -> dict[str, str]:
    """An environment in which the package mlflow is there, but cannot be loaded."""
    folder.mkdir()
    (folder / "mlflow.py").write_text(code)
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


def children() -> list[psutil.Process]:
    """Processes of trackers that this process has started; it may have other children."""
    return [p for p in psutil.Process().children() if any("loop.tracking" in word for word in p.cmdline())]


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
    (process,) = children()
    process.kill()
    await until(lambda: len(shown) == 2, 60)
    last = shown[1]
    assert isinstance(last, ev.Notice)
    assert last.text.startswith("mlflow: its process has ended (exit code -9, see ")
    await tracking.close()
    again = Tracking(["mlflow"], world.paths, shown.append)
    await again.start(environ)
    await until(lambda: len(shown) == 3, 60)
    async with asyncio.timeout(5):
        await again.close()
    assert len(shown) == 3
    assert children() == []


async def test_whoever_is_told_to_end_while_it_waits_waits_less(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tracker's process cannot end: its library hangs when it is loaded."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr("loop.service.tracking.HURRY_S", 0.1)
    tracking = Tracking(["mlflow"], world.paths, print)
    await tracking.start(
        broken(tmp_path / "modules", "import time, pathlib\npathlib.Path('here').touch()\ntime.sleep(99)")
    )
    await until((world.paths.folder / "here").exists, 60)
    closing = asyncio.create_task(tracking.close())
    await asyncio.sleep(0.2)
    assert not closing.done()
    tracking.hurry()
    async with asyncio.timeout(20):
        await closing
    tracking.hurry()  # too late, and no error
    assert children() == []


def engine(
    repository: Path, *words: str, tracker: str = "tensorboard", environ: Mapping[str, str] = os.environ
) -> subprocess.Popen[str]:
    """An engine in the foreground with this tracker."""
    command = ["-m", "loop.cli", "run", "--headless", "--tag", "t", "--agent", "search", *words]
    return subprocess.Popen(
        [sys.executable, *command, "--track", tracker],
        cwd=repository,
        env={**environ, "PYTHONPATH": environ.get("PYTHONPATH", "") + os.pathsep + str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
async def test_a_run_is_free_while_its_last_engine_waits_for_a_tracker(
    repository: Path, tmp_path: Path
) -> None:
    environ = broken(tmp_path / "modules", "import time\ntime.sleep(99)")
    waits = engine(repository, "--budget", "1", "--max-experiments", "1", tracker="mlflow", environ=environ)
    paths = RunPaths(repository, "t")
    await until(lambda: engine_runs(paths), 60)
    await until(lambda: not engine_runs(paths), 60)
    assert trackers(repository)
    assert waits.poll() is None
    waits.terminate()
    assert waits.wait(20) == 0
    assert not trackers(repository)
    assert [type(record.event) for record in journal.read(paths.journal)][-1] == ev.EngineStopped


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

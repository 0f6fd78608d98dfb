"""The commands that open the cockpit, up to the cockpit itself (tests/e2e opens it in a terminal)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from loop.cli import cockpit
from loop.cli.__main__ import main
from loop.client import Client, Connection, ConnectionLost
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records import journal
from loop.service import attach, launch
from loop.state import fold
from tests.loop.scripted import Bench, ScriptedAgent

Connect = Callable[[], Awaitable[Connection]]


@pytest.fixture
def shown(repository: Path, monkeypatch: pytest.MonkeyPatch) -> list[Connect]:
    """What a cockpit that is opened would connect with."""
    opened: list[Connect] = []

    def show(connect: Connect, now: Any = None, runs: Any = None) -> int:
        opened.append(connect)
        return 0

    monkeypatch.chdir(repository)
    monkeypatch.setattr(cockpit, "_show", show)
    return opened


async def test_an_engine_is_started_once_and_not_again_when_it_has_been_stopped(
    repository: Path, shown: list[Connect]
) -> None:
    paths, starts = RunPaths(repository, "t"), 0

    def start() -> None:
        nonlocal starts
        starts += 1
        launch.start_detached(paths, {"agent": "search", "budget_s": 0.2, "max_hours": 1.0})

    cockpit._open(paths, start)
    client = await shown[0]()
    assert isinstance(client, Client)
    assert client.state.tag == "t"
    await client.close()
    assert await asyncio.to_thread(main, ["stop", "--now", "--tag", "t"]) == 0
    with pytest.raises(ConnectionLost, match="no engine runs for t"):
        await shown[0]()
    assert starts == 1


async def test_an_engine_that_cannot_start_is_a_lost_connection_with_its_reason(
    repository: Path, shown: list[Connect]
) -> None:
    def start() -> None:
        raise UsageError("no agent 'nobody'")

    cockpit._open(RunPaths(repository, "t"), start)
    with pytest.raises(ConnectionLost, match="no agent 'nobody'"):
        await shown[0]()


async def test_a_replay_needs_no_engine(
    repository: Path, shown: list[Connect], capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=1, budget_s=0.1, baseline_runs=1)
    await bench.run()
    assert main(["replay", "--speed", "-1"]) == 2
    assert "--speed must be 0 (all at once) or more" in capsys.readouterr().err
    assert main(["replay", "t"]) == 0
    recording = await shown[0]()
    assert recording.state.rows == fold(journal.read(bench.paths.journal)).rows == 1
    assert not attach.engine_runs(bench.paths)


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize("command", ["attach", "serve"])
def test_without_an_engine_it_is_said_how_to_get_one(
    repository: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    paths = RunPaths(repository, "t")
    paths.create()
    paths.journal.touch()
    assert main([command]) == 2
    err = capsys.readouterr().err
    assert "start one with `autoresearch-tui --tag t`, or look at it with `autoresearch-tui replay t`" in err

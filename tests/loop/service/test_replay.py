"""A run that is over, shown from what is on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loop import events as ev
from loop.client import Refused
from loop.records import journal, results
from loop.service.replay import Replay
from loop.state import fold
from tests.loop.scripted import Bench, ScriptedAgent


@pytest.fixture
async def over(repository: Path) -> Bench:
    """A run of three experiments that has ended."""
    bench = Bench(
        repository, ScriptedAgent(), max_experiments=3, budget_s=0.1, rule="improved", baseline_runs=1
    )
    await bench.run()
    return bench


async def test_all_at_once_is_the_state_at_the_end(over: Bench) -> None:
    replay = Replay(over.paths, over.repository)
    assert replay.state == fold(journal.read(over.paths.journal))
    assert replay.state.rows == 3
    detail = await replay.experiment(3)
    assert "X = 3.0" in detail.before or "X = 2.5" in detail.before
    assert "X = 2.25" in detail.after
    assert detail.transcript[0].text.startswith("experiment 3: thinking")
    assert "val_bpb" in detail.log
    with pytest.raises(Refused, match="there is no experiment 4"):
        await replay.experiment(4)
    with pytest.raises(Refused, match="no engine runs"):
        await replay.send(ev.Pause())


async def test_in_time_it_ends_in_the_same_state(over: Bench) -> None:
    replay = Replay(over.paths, over.repository, speed=1e6)
    assert replay.state.rows == 0
    durable = len(journal.read(over.paths.journal))
    seen: list[ev.Record] = []
    async with asyncio.timeout(20):
        async for record in replay.records():
            seen.append(record)
            if record.seq == durable:
                break
    assert [r.seq for r in seen if r.seq] == list(range(1, durable + 1))
    assert [r.t for r in seen] == sorted(r.t for r in seen)
    assert sum(isinstance(r.event, ev.Progress) for r in seen) >= 3
    said = [r.event.text for r in seen if isinstance(r.event, ev.AgentDelta) and r.event.kind == "text"]
    assert sorted(set(said)) == ["experiment 2: thinking", "experiment 3: thinking"]
    assert replay.state.experiments == fold(journal.read(over.paths.journal)).experiments


async def test_rows_of_others_are_shown_too(over: Bench) -> None:
    results.append(over.paths.results, "baseline\t0.997900\t44.0\tkeep\tof another tool", 0)
    (other,) = await Replay(over.paths, over.repository).others()
    assert (other.n, other.description) == (-1, "of another tool")

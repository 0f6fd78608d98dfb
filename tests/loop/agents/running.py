"""Runs a whole engine around an agent, until it ends or pauses."""

from __future__ import annotations

import asyncio

from loop.records.archive import read_transcript
from tests.loop.scripted import Bench, until


async def finish(bench: Bench, seconds: float = 60.0) -> str:
    """Run an engine to its end; a pause nobody expected fails the test with its reason."""
    running = asyncio.create_task(bench.run())
    await until(lambda: running.done() or bench.engine.state.paused, seconds)
    if not running.done():
        running.cancel()
        raise AssertionError(f"paused: {bench.engine.state.paused}")
    return await running


async def paused(bench: Bench) -> str:
    """Run an engine until it pauses by itself; returns why. The engine is stopped then."""
    running = asyncio.create_task(bench.run())
    await until(lambda: running.done() or bench.engine.state.paused)
    reason = bench.engine.state.paused
    assert reason, "the engine ended and did not pause"
    bench.engine.stop("enough", now=True)
    await running
    return reason


def texts(bench: Bench, n: int, kind: str) -> list[str]:
    """Messages of a kind in the transcript of experiment `n`."""
    return [d.text for d in read_transcript(bench.paths.transcript(n)) if d.kind == kind]

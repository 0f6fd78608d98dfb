"""The audit off the event loop: the same findings in a thread and in a process, and an end to its patience."""

from __future__ import annotations

import asyncio

import pytest

from loop.judging import audit
from loop.proposing import auditing

BEFORE = "import torch\nX = 1\n"
AFTER = BEFORE + "import socket\n"


def long(source: str) -> str:
    return source + "".join(f"def f_{i}(x):\n    return x * {i}\n" for i in range(5000))


async def test_small_and_large_sources_have_the_same_findings() -> None:
    expected = [finding.text for finding in audit.audit(BEFORE, AFTER)]
    assert expected == ["imports socket"]
    for before, after in ((BEFORE, AFTER), (long(BEFORE), long(AFTER))):
        assert [f.text for f in await auditing.findings("train.py", before, after)] == expected


async def test_of_other_languages_nothing_is_said() -> None:
    assert await auditing.findings("train.jl", BEFORE, AFTER) == []


async def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "PATIENCE_S", 0.001)
    found = await auditing.findings("train.py", long(BEFORE), long(AFTER))
    assert [(f.text, f.refused) for f in found] == [("too large to be looked through", True)]


async def test_the_event_loop_goes_on_while_a_large_source_is_audited() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await auditing.findings("train.py", long(BEFORE), long(AFTER))
    ticking.cancel()
    assert ticks > 100

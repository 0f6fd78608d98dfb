"""The time-out of a proposal stands still while nobody can work."""

from __future__ import annotations

import asyncio

import pytest

from loop.agents.acp.clock import Clock


async def test_time_that_stands_still_does_not_count() -> None:
    clock = Clock()
    async with asyncio.timeout(0.3) as clock.limit:
        with clock.still(), clock.still():  # two requests at the same time
            await asyncio.sleep(0.5)
        assert not clock.late


async def test_time_is_given_back() -> None:
    clock = Clock()
    async with asyncio.timeout(0.3) as clock.limit:
        await asyncio.sleep(0.2)
        clock.give_back(5.0)
        await asyncio.sleep(0.3)


async def test_the_rest_of_the_time_goes_on_afterwards() -> None:
    clock = Clock()

    async def work() -> None:
        async with asyncio.timeout(0.2) as clock.limit:
            with clock.still():
                await asyncio.sleep(0.3)
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await work()
    assert clock.late


def test_without_a_time_out_nothing_is_ever_late() -> None:
    clock = Clock()
    clock.give_back(1.0)
    assert not clock.late

"""Turns that do not go well: outages, refused keys, time-outs, too little money, messages in between."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from loop.agents.base import AgentFailed, AgentStopped, OutOfMoney
from tests.loop.agents.acp.scenarios import cli
from tests.loop.agents.world import Heard, context, propose


async def test_an_outage_is_waited_for_and_shown(temporary: Path) -> None:
    heard = Heard()
    proposal = await propose(cli("outage", temporary), heard)
    assert proposal.description == "X to 2.0"
    first, second = heard.texts("retry")
    assert "Overloaded" in first
    assert "try 2" in first
    assert "try 3" in second


async def test_a_server_that_was_never_reached_needs_a_human(temporary: Path) -> None:
    with pytest.raises(AgentStopped, match=r"cannot reach its server .* check its address"):
        await propose(cli("down", temporary), Heard())


async def test_an_outage_does_not_last_for_ever(temporary: Path) -> None:
    with pytest.raises(AgentFailed, match=r"Overloaded.*for \d+ minutes now"):
        await propose(cli("outage", temporary, outage_s=0.0), Heard())


async def test_a_refused_key_is_not_tried_again(temporary: Path) -> None:
    heard = Heard()
    with pytest.raises(AgentStopped, match="its key is refused"):
        await propose(cli("bad key", temporary), heard)
    assert heard.texts("retry") == []


async def test_a_time_out_is_paid_for(temporary: Path) -> None:
    with pytest.raises(AgentFailed, match="made no proposal in 4 s") as error:
        await propose(cli("endless", temporary, seconds=4.0), Heard())
    assert error.value.usage.dollars == pytest.approx(0.02)


async def test_a_turn_that_may_have_cost_too_much_is_interrupted_for_its_figures(temporary: Path) -> None:
    with pytest.raises(OutOfMoney, match="has used") as error:
        await propose(cli("endless", temporary), Heard(), context(dollars_left=0.0201))
    assert error.value.usage.dollars == pytest.approx(0.02)


async def test_a_message_reaches_an_agent_that_can_be_steered_in_mid_turn(temporary: Path) -> None:
    started = time.monotonic()

    def hear() -> list[str]:
        said.append("smaller!")
        return ["smaller!"] if len(said) == 1 and time.monotonic() > started else []

    said: list[str] = []
    heard = Heard()
    await propose(cli("steered", temporary), heard, context(hear=hear))
    assert len(heard.texts("text")) == 1, "it took one turn"


async def test_a_message_that_comes_too_late_for_a_turn_is_told_in_the_next(temporary: Path) -> None:
    said: list[str] = []

    def hear() -> list[str]:
        said.append("smaller!")
        return ["smaller!"] if len(said) == 1 else []

    heard = Heard()
    await propose(cli("steered too late", temporary), heard, context(hear=hear))
    assert len(heard.texts("text")) == 2, "it took another turn"

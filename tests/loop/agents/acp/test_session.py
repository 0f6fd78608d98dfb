"""One experiment's session: corrections, limits, and what is shown of an edit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loop.agents.acp import session
from loop.agents.base import AgentFailed, AgentStopped, OutOfMoney, Wish
from tests.conftest import TRAINER
from tests.loop.agents.acp.scenarios import cli
from tests.loop.agents.world import Heard, context, propose


async def test_what_cannot_be_trained_goes_back_to_the_agent(temporary: Path) -> None:
    heard = Heard()
    proposal = await propose(cli("corrected", temporary), heard)
    assert proposal.description == "X to 2.0"
    assert "incumbent's program unchanged" in heard.texts("result")[0]


async def test_a_humans_time_to_answer_is_not_the_proposals(temporary: Path) -> None:
    async def slow(wish: Wish) -> bool:
        await asyncio.sleep(9.0)
        return wish.granted

    given = context(permit=slow)
    proposal = await propose(cli("wish", temporary, seconds=8.0), Heard(), given)
    assert proposal.description == "X to 2.0"


async def test_a_cli_agent_that_costs_too_much_is_ended(temporary: Path) -> None:
    with pytest.raises(OutOfMoney, match="spending limit") as error:
        await propose(cli("dear", temporary), Heard(), context(dollars_left=5.0))
    assert error.value.usage.dollars == 9.0


@pytest.mark.parametrize(
    ("scenario", "error", "said"),
    [
        ("login", AgentStopped, "is not logged in"),
        ("dies", AgentFailed, "no more memory"),
        ("stubborn", AgentFailed, "submitted nothing that can be trained in 6 rounds"),
    ],
)
async def test_how_a_cli_agent_fails(
    temporary: Path, scenario: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        await propose(cli(scenario, temporary), Heard())
    assert list(temporary.iterdir()) == []


async def test_each_change_of_the_file_is_shown_once(temporary: Path) -> None:
    """The file is looked at every fifth of a second and when a turn ends: twice within the same moment."""
    heard = Heard()
    await propose(cli("good", temporary), heard)
    (edit,) = heard.edits
    assert (edit.before, "X = 2.0" in edit.after) == (TRAINER, True)
    told = [d.text.splitlines()[0] for d in heard.deltas if d.kind == "tool" and d.tool == "edit"]
    assert told == ["Edit train.py", "train.py +1 -1: X = 3.0 -> 2.0"]


async def test_what_the_engine_refuses_goes_back_to_the_agent(temporary: Path) -> None:
    refused: list[str] = []

    async def refuse(source: str) -> str | None:
        await asyncio.sleep(0)
        refused.append(source)
        return "it opens a socket."

    heard = Heard()
    with pytest.raises(AgentFailed, match="nothing that can be trained in 6 rounds"):
        await propose(cli("good", temporary), heard, context(refuse=refuse))
    assert len(refused) == 6
    said = "Not submitted: it opens a socket. Then end your turn again."
    assert heard.texts("result").count(said) == 6


async def test_a_refused_mode_is_not_fatal(temporary: Path) -> None:
    heard = Heard()
    await propose(cli("refuses modes", temporary), heard)
    assert any("refuses mode acceptEdits" in text for text in heard.texts("note"))


async def test_a_freer_mode_is_taken_where_edits_do_not_land_but_never_full_access(temporary: Path) -> None:
    heard = Heard()
    await propose(cli("climbs", temporary), heard)
    assert "edits do not land in mode read-only: now workspace-write" in heard.texts("note")
    assert heard.texts("thinking") == ["mode read-only", "mode workspace-write"]


async def test_a_turn_that_ends_because_of_a_refusal_is_corrected(temporary: Path) -> None:
    assert (await propose(cli("refused", temporary), Heard())).description == "X to 2.0"


@pytest.mark.parametrize("model", ["small", "Small One"])
async def test_a_model_is_chosen_by_its_id_or_its_name(temporary: Path, model: str) -> None:
    heard = Heard()
    await propose(cli("good", temporary, model=model), heard)
    assert "acp, small, acceptEdits, no fence" in heard.texts("note")


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("good", "acp does not offer model huge: choose --model among small"),
        ("no models", "acp lets no model be chosen: leave --model out"),
    ],
)
async def test_a_model_that_is_not_offered_is_said_in_one_line(
    temporary: Path, scenario: str, said: str
) -> None:
    with pytest.raises(AgentStopped, match=said):
        await propose(cli(scenario, temporary, model="huge"), Heard())


async def test_the_key_in_the_environment_is_the_login_where_there_is_no_other(temporary: Path) -> None:
    assert (await propose(cli("key", temporary), Heard())).description == "X to 2.0"


async def test_silence_is_said(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SILENT_S", 0.5)
    heard = Heard()
    with pytest.raises(AgentFailed):
        await propose(cli("hangs", temporary, seconds=4.0), heard)
    assert heard.texts("retry")[0] == "nothing heard from acp for 0 s"

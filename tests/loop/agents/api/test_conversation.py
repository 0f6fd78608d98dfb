"""Conversations through each API, against a real server: how a turn can fail, and when one is given up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loop import events as ev
from loop.agents.api.conversation import Call, _arguments, sendable
from loop.agents.api.toolbox import ToolError
from loop.agents.base import Answering
from loop.experiment import Experiment
from loop.service import commands
from tests.loop.agents.api import wire
from tests.loop.agents.api.mock import APIS, KEY, QUICK, Mock, agent, call, say, set_x
from tests.loop.agents.api.wire import Reply, Wire, spoken
from tests.loop.agents.running import finish, paused, texts
from tests.loop.agents.world import Heard, baseline, context, propose
from tests.loop.scripted import Bench, until

RETRIED: dict[str, dict[str, Any]] = {
    "rate limit": {"type": "fail", "status": 429, "retry_after": 0.3},
    "overloaded": {"type": "fail", "status": 529, "retry_after": 0.05},
    "server error": {"type": "fail", "status": 500, "retry_after": 0.05},
    "conflict": {"type": "fail", "status": 409, "retry_after": 0.05},
    "cut": {"type": "stream_fault", "kind": "disconnect", "after_chunks": 4},
    "early end": {"type": "stream_fault", "kind": "truncate", "after_chunks": 4},
    "garbled": {"type": "stream_fault", "kind": "malformed", "after_chunks": 4},
    "silence": {"type": "stream_fault", "kind": "stall", "after_chunks": 4, "stall_seconds": 3},
}
STOPPED = {
    401: "refuses the key",
    402: "has no credit left",
    404: "does not know model",
}


@pytest.mark.parametrize("api", APIS)
async def test_a_broken_turn_is_asked_for_again_as_a_whole(repository: Path, mock: Mock, api: str) -> None:
    """Every fault in a row, in one turn: each attempt streams words and a call; only the last one counts."""
    look = say("I look.", ("view", {}))
    broken = [fault for fault in RETRIED.values() if fault["type"] == "stream_fault"]
    mock.script(*RETRIED.values(), *[look for _ in broken], look, *set_x(2.0))
    bench = Bench(repository, agent(api, mock.url(api), silence_s=0.5), max_experiments=2, budget_s=0.1)
    await finish(bench)
    waits = texts(bench, 2, "retry")
    assert len(waits) == len(RETRIED)
    assert all("again in" in wait for wait in waits)
    tools = [tool.splitlines()[0] for tool in texts(bench, 2, "tool")]
    assert tools == ["train.py from line 1", "train.py +1 -1: X = 3.0 -> 2.0", "X to 2.0"]
    assert mock.pending() == []
    # llmock cannot see that the garbled stream, which it had sent to its end, was asked for again.
    assert set(mock.findings()) <= {"malformed_chunk_ignored"}
    bodies = [request["body"] for request in mock.requests()]
    assert bodies[: len(RETRIED)] == [bodies[0]] * len(RETRIED), "a broken turn left something in the history"


@pytest.mark.parametrize("api", APIS)
async def test_retry_after_is_kept(repository: Path, mock: Mock, api: str) -> None:
    mock.script({"type": "fail", "status": 429, "retry_after": 1.0}, *set_x(2.0))
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    await finish(bench)
    limited, again = mock.requests()[:2]
    assert again["started_at"] - limited["ended_at"] >= 1.0
    assert "(as it asked)" in texts(bench, 2, "retry")[0]


@pytest.mark.parametrize("api", APIS)
async def test_what_a_human_must_mend_pauses_the_engine_until_resumed(
    repository: Path, mock: Mock, api: str
) -> None:
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    state = bench.engine.state
    mock.script({"type": "fail", "status": 401, "message": f"Incorrect: {KEY[:9]}***{KEY[-4:]} {KEY}"})
    running = asyncio.create_task(bench.run())
    for status, words in STOPPED.items():
        await until(lambda: state.paused and state.incumbent)
        assert words in (state.paused or "")
        assert KEY[-4:] not in (state.paused or "")
        following = [code for code in STOPPED if code > status][:1]
        mock.script(
            *({"type": "fail", "status": code} for code in following), *([] if following else set_x(2.0))
        )
        await commands.obey(bench.engine, ev.Resume())
    await until(running.done)
    assert state.experiment(2).phase == "keep"
    assert len(mock.requests()) == len(STOPPED) + 2, "a fault that cannot pass was tried again"


async def test_no_credit_by_another_name_stops_too(repository: Path, mock: Mock) -> None:
    mock.script({"type": "fail", "status": 429, "code": "insufficient_quota", "message": "You exceeded it"})
    bench = Bench(repository, agent("chat", mock.url("chat")), max_experiments=2, budget_s=0.1)
    assert "no credit" in await paused(bench)


@pytest.mark.parametrize("api", APIS)
async def test_wrong_tool_input_comes_back_and_is_mended(repository: Path, mock: Mock, api: str) -> None:
    mock.script(
        {"type": "tool_fault", "kind": "malformed_arguments"},
        call("submit", description="broken arguments"),
        call("view", path="/etc/passwd"),
        call("view", first="one"),
        call("str_replace", old="X = 4.0", new="X = 2.0"),
        call("submit", description="nothing"),
        call("frobnicate"),
        *set_x(2.0),
    )
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    await finish(bench)
    said = texts(bench, 2, "result")
    assert "not JSON" in said[0]
    assert "there is no '/etc/passwd' here" in said[1]
    assert "Expected `int`, got `str` - at `$.first`" in said[2]
    assert "The nearest is line 5: 'X = 3.0" in said[3]
    assert "incumbent's program unchanged" in said[4]
    assert "no tool 'frobnicate'" in said[5]
    assert said[6:] == ["train.py is changed.", "submitted."]
    assert bench.engine.state.experiment(2).phase == "keep"


@pytest.mark.parametrize("api", APIS)
async def test_bad_input_for_ever_is_given_up(repository: Path, mock: Mock, api: str) -> None:
    mock.script({"type": "reply", "tool_calls": [{"name": "view", "arguments": {"x": 1}}], "times": None})
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    assert "8 tool calls" in await paused(bench)
    assert bench.engine.state.usage.output_tokens > 0, "what failed attempts cost is not counted"


@pytest.mark.parametrize("api", APIS)
async def test_a_model_that_does_not_submit_is_given_up(repository: Path, mock: Mock, api: str) -> None:
    """Three proposals: one only talks, one is always too long, one is refused."""
    talk, long = say("I would rather talk."), say("So much to say", finish="length")
    refusal = say("I cannot help.", finish="content_filter")
    mock.script(*[talk] * 4, *[long] * 4, refusal, *[talk] * 3)
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    await paused(bench)
    errors = texts(bench, 2, "error")
    assert errors[0].endswith("ended 4 turns in a row without a tool call")
    assert errors[1] == errors[0]
    # llmock has no word for a refusal in Responses: test_gpt.py has that case.
    assert ("refused to answer" in errors[2]) == (api != "responses")
    bodies = [msgspec.json.encode(r["body"]).decode() for r in mock.requests()]
    assert "no tool call. Edit the file" in bodies[1]
    assert "longer than allowed and is lost" in bodies[5]
    assert "So much to say" not in bodies[5]


@pytest.mark.parametrize("api", APIS)
async def test_a_proposal_has_a_time_limit(repository: Path, mock: Mock, api: str) -> None:
    mock.script({"type": "delay", "seconds": 100, "times": None})
    limits = msgspec.structs.replace(QUICK, seconds=0.3)
    bench = Bench(repository, agent(api, mock.url(api), limits), max_experiments=2, budget_s=0.1)
    assert "submitted nothing in 0 s" in await paused(bench)


@pytest.mark.parametrize("api", APIS)
async def test_a_proposal_has_a_turn_limit(repository: Path, mock: Mock, api: str) -> None:
    mock.script({**call("view"), "times": None})
    limits = msgspec.structs.replace(QUICK, turns=6)
    bench = Bench(repository, agent(api, mock.url(api), limits), max_experiments=2, budget_s=0.1)
    assert "submitted nothing in 6 turns" in await paused(bench)
    bodies = [msgspec.json.encode(r["body"]).decode() for r in mock.requests()]
    assert len(bodies) == 3 * 6, "three proposals, then the engine pauses"
    assert ["Three turns are left" in body for body in bodies[:6]] == [False] * 3 + [True] * 3


async def test_a_server_that_asks_to_wait_for_days_pauses_the_engine(repository: Path, mock: Mock) -> None:
    mock.script({"type": "fail", "status": 429, "retry_after": 172800})
    bench = Bench(repository, agent("claude", mock.url("claude")), max_experiments=2, budget_s=0.1)
    assert "asks to wait 48.0 hours: resume then" in await paused(bench)


async def test_the_spending_limit_ends_a_proposal_under_way(repository: Path, mock: Mock) -> None:
    mock.script({**call("view"), "times": None})
    bench = Bench(
        repository, agent("claude", mock.url("claude")), max_experiments=9, max_cost=0.01, budget_s=0.1
    )
    assert (await finish(bench)).startswith("limit reached: $0.01 spent of $0.01")
    spent = bench.engine.state.usage
    assert spent.dollars is not None
    assert 0.01 <= spent.dollars < 0.02
    assert spent == bench.engine.state.experiment(2).usage
    assert "the spending limit was reached" in texts(bench, 2, "error")[0]


async def test_a_spending_limit_that_cannot_be_kept_is_not_ignored(repository: Path, mock: Mock) -> None:
    mock.script(*set_x(2.0))
    bench = Bench(repository, agent("chat", mock.url("chat")), max_experiments=9, max_cost=1.0, budget_s=0.1)
    assert "no price is known" in await finish(bench)


@pytest.mark.parametrize("api", APIS)
async def test_a_server_that_is_not_there_is_named(repository: Path, api: str) -> None:
    bench = Bench(repository, agent(api, "http://127.0.0.1:9/v1"), max_experiments=2, budget_s=0.1)
    reason = await paused(bench)
    assert "cannot be reached" in reason
    assert "then resume" in reason


@pytest.mark.parametrize("api", APIS)
async def test_a_model_with_little_room_is_asked_again_with_less(api: str) -> None:
    refusal = Reply(
        status=400,
        body={
            "error": {"type": "exceed_context_size_error", "message": "exceeds the available context size"}
        },
    )
    rows = [Experiment(n, "p", "discard", f"c{n}", "raise it " * 25, value=2.0) for n in range(2, 200)]
    given = context(n=200, experiments=[baseline(), *rows], readonly={"prepare.py": "x = 1\n" * 9000})
    heard = Heard()
    async with Wire(refusal, *spoken(api), *spoken(api)) as peer:
        asked = agent(api, peer.url)
        assert (await asked.propose(given, heard)).description == "X to 2.0"
        await propose(asked, heard, msgspec.structs.replace(given, n=201))
    assert "begun anew with a prompt of at most" in heard.texts("note")[0]
    first, second, _, third, _ = (len(msgspec.json.encode(body)) for _, _, body in peer.requests)
    assert second < 0.65 * first
    assert third == pytest.approx(second, rel=0.05)


async def test_calls_after_a_submission_do_nothing() -> None:
    submitted = wire.message(
        wire.tool_use("str_replace", **wire.EDIT),
        wire.tool_use("submit", **wire.SUBMIT),
        wire.tool_use("note", text="too late"),
    )
    heard = Heard()
    async with Wire(submitted) as peer:
        proposal = await propose(agent("claude", peer.url), heard)
    assert (proposal.description, proposal.notes) == ("X to 2.0", None)
    assert len(peer.requests) == 1


async def test_a_model_that_reads_without_end_is_told_to_submit() -> None:
    turns = [
        wire.message(wire.tool_use("str_replace", **wire.EDIT)),
        wire.message(*([wire.tool_use("view", path="prepare.py")] * 12)),
        wire.message(wire.tool_use("submit", **wire.SUBMIT)),
    ]
    heard = Heard()
    given = context(readonly={"prepare.py": "x = 1  # a line of forty characters ....\n" * 2_000})
    async with Wire(*turns) as peer:
        assert (await propose(agent("claude", peer.url), heard, given)).description == "X to 2.0"
    enough = "you have read enough for one experiment: submit now."
    answers = [block["content"] for block in peer.body(2)["messages"][-1]["content"]]
    assert answers[0].startswith("lines 1 to 600 of 2000")
    assert answers[-1] == enough
    assert sum(len(text) for text in answers if text != enough) < 300_000


NESTED = "[" * 100_000


@pytest.mark.parametrize(
    ("arguments", "sent"), [('{"a": 1}', '{"a": 1}'), ('{"a": ', "{}"), ("", "{}"), (NESTED, "{}")]
)
def test_only_json_is_sent_back(arguments: str, sent: str) -> None:
    assert sendable(arguments) == sent


@pytest.mark.parametrize("arguments", [NESTED, "{", '{"a": ' + "9" * 5000 + "}"])
def test_arguments_that_cannot_be_read_are_the_models_mistake(arguments: str) -> None:
    with pytest.raises(ToolError, match="the arguments are not JSON"):
        _arguments(Call("id", "view", arguments))


@pytest.mark.parametrize("api", APIS)
async def test_a_question_is_answered_in_words_and_nothing_is_changed(mock: Mock, api: str) -> None:
    edit = say("", ("str_replace", {"old": "X = 3.0", "new": "X = 2.0"}))
    mock.script(say("", ("read_log", {"experiment": 1})), edit, say("Because the rate is too high."))
    heard, asked = Heard(), agent(api, mock.url(api))
    assert isinstance(asked, Answering)
    usage = await asked.answer(context(), "Why did it crash?", heard)
    await asked.close()
    assert heard.texts("text") == ["Because the rate is too high."]
    assert "this is a question, not an experiment" in heard.texts("result")[-1]
    assert heard.edits == []
    assert usage.input_tokens > 0
    assert "The human asks: Why did it crash?" in str(mock.requests()[0]["body"])

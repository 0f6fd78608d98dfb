"""What agent `gpt` sends and reads in OpenAI's Responses API: reasoning carried on, refusals and failures."""

from __future__ import annotations

import pytest

from loop.agents.api.gpt import GptAgent
from loop.agents.base import AgentFailed, AgentStopped
from tests.loop.agents.api import wire
from tests.loop.agents.api.mock import KEY, agent
from tests.loop.agents.api.wire import EDIT, SUBMIT, Reply, Wire
from tests.loop.agents.world import Heard, propose


async def test_responses_carry_reasoning_on_and_store_nothing() -> None:
    reasoning = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Smaller X?"}],
        "encrypted_content": "sealed",
    }
    used = {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 0},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 30},
        "total_tokens": 1050,
    }
    first = wire.response(
        reasoning, wire.output_text("I try it."), wire.function_call("str_replace", **EDIT), usage=used
    )
    heard = Heard()
    async with Wire(first, wire.response(wire.function_call("submit", **SUBMIT))) as peer:
        proposal = await propose(agent("responses", peer.url), heard)
    path, headers, body = peer.requests[0]
    assert path == "/v1/responses"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (body["store"], body["parallel_tool_calls"]) == (False, False)
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["prompt_cache_key"] == "autoresearch-t"
    assert [text.strip() for text in heard.texts("thinking")] == ["Smaller X?"]
    assert [text.strip() for text in heard.texts("text")] == ["I try it."]
    history = peer.body(1)["input"]
    assert history[0] == body["input"][0]
    assert history[1] == reasoning
    assert history[3]["type"] == "function_call"
    assert history[4] == {
        "type": "function_call_output", "call_id": "call_str_replace", "output": "train.py is changed.",
    }  # fmt: skip
    usage = proposal.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.reasoning_tokens) == (1000, 600, 30)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            wire.response(
                wire.output_text("No."), status="incomplete", incomplete_details={"reason": "content_filter"}
            ),
            "refused to answer",
        ),
        (
            Reply(status=400, body={"error": {"code": "context_length_exceeded", "message": "too long"}}),
            "too long for gpt-6.1-sol",
        ),
        (Reply(status=400, body={"error": {"message": "frobnicate is not supported"}}), "frobnicate"),
    ],
)
async def test_what_responses_will_not_do_ends_the_attempt(reply: Reply, said: str) -> None:
    async with Wire(reply) as peer:
        with pytest.raises(AgentFailed, match=said):
            await propose(agent("responses", peer.url), Heard())


async def test_a_failed_response_and_a_model_that_does_not_reason() -> None:
    failed = wire.response(status="failed", error={"code": "server_error", "message": "an internal error"})
    refusal = Reply(status=400, body={"error": {"message": "Unsupported parameter: 'reasoning.summary'"}})
    turns = [
        wire.response(wire.function_call("str_replace", **EDIT)),
        wire.response(wire.function_call("submit", **SUBMIT)),
    ]
    heard = Heard()
    async with Wire(failed, refusal, *turns) as peer:
        await propose(agent("responses", peer.url), heard)
    assert "an internal error" in heard.texts("retry")[0]
    assert ["reasoning" in body for _, _, body in peer.requests] == [True, True, False, False]


async def test_a_foreign_model_behind_a_proxy_is_asked_without_what_it_does_not_know() -> None:
    """A proxy refuses one option at a time."""
    refusals = [
        Reply(status=400, body={"error": {"message": f"x does not support parameters: ['{option}']"}})
        for option in ("prompt_cache_key", "reasoning")
    ]
    turns = [
        wire.response(wire.function_call("str_replace", **EDIT)),
        wire.response(wire.function_call("submit", **SUBMIT)),
    ]
    async with Wire(*refusals, *turns) as peer:
        await propose(agent("responses", peer.url), Heard())
    sent = [("reasoning" in body, "prompt_cache_key" in body) for _, _, body in peer.requests]
    assert sent == [(True, True), (True, False), (False, False), (False, False)]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            Reply(body={"object": "list", "data": []}),
            "127.0.0.1:[0-9]+ serves no model: load one, then resume",
        ),
        (Reply(status=500, body={}), "check --base-url, or name the model with --model, then resume"),
    ],
)
async def test_a_server_that_offers_no_model_needs_a_human(reply: Reply, said: str) -> None:
    async with Wire(reply) as peer:
        with pytest.raises(AgentStopped, match=said):
            await propose(agent("chat", peer.url, model=""), Heard())


async def test_arguments_that_are_not_json_are_sent_back_as_an_empty_object() -> None:
    """Servers parse the history, and refuse all of it for one such call."""
    broken = {**wire.function_call("view"), "arguments": '{"first": 1'}
    turns = [
        wire.response(broken),
        wire.response(wire.function_call("str_replace", **EDIT)),
        wire.response(wire.function_call("submit", **SUBMIT)),
    ]
    async with Wire(*turns) as peer:
        await propose(agent("responses", peer.url), Heard())
    call, answer = peer.body(1)["input"][1:3]
    assert call["arguments"] == "{}"
    assert "not JSON" in answer["output"]


def test_a_server_is_called_by_its_host_and_port() -> None:
    assert GptAgent(KEY, "m", "http://127.0.0.1:8000/v1")._peer.name == "127.0.0.1:8000"
    assert GptAgent(KEY, "m")._peer.name == "OpenAI"

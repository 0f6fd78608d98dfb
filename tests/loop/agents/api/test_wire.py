"""What goes over the wire: caching, thinking and reasoning carried on, odd servers, how fast words come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from loop import events as ev
from loop.agents.base import AgentFailed
from loop.state import Experiment
from tests.loop.agents.api import wire
from tests.loop.agents.api.mock import KEY, agent, finish
from tests.loop.agents.api.wire import Reply, Wire
from tests.loop.agents.world import Heard, baseline, context, propose
from tests.loop.scripted import Bench

EDIT = {"old": "X = 3.0", "new": "X = 2.0"}
SUBMIT = {"description": "X to 2.0", "hypothesis": "smaller is better"}


async def test_claude_caches_the_lasting_parts_and_sends_thinking_back_unchanged() -> None:
    first = wire.message(
        wire.thinking("Smaller X?", "sealed+signature=="),
        wire.text("I try it."),
        wire.tool_use("str_replace", **EDIT),
        usage={
            "input_tokens": 100,
            "cache_read_input_tokens": 800,
            "cache_creation_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
        },
    )
    heard = Heard()
    async with Wire(first, wire.message(wire.tool_use("submit", **SUBMIT))) as peer:
        proposal = await propose(agent("claude", peer.url), heard)
    assert proposal.description == "X to 2.0"
    assert heard.texts("thinking") == ["Smaller X?"]
    assert heard.texts("text") == ["I try it."]
    path, headers, body = peer.requests[0]
    assert path.endswith("/v1/messages")
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert "tool_choice" not in body
    hour = {"type": "ephemeral", "ttl": "1h"}
    assert body["system"][0]["cache_control"] == hour
    assert [part.get("cache_control") for part in body["messages"][0]["content"]] == [hour, hour, None]
    assert body["cache_control"] == {"type": "ephemeral"}
    history = peer.body(1)["messages"]
    assert history[0] == body["messages"][0], "the prompt changed: nothing of it can be cached"
    assert history[1]["content"] == [
        {"type": "thinking", "thinking": "Smaller X?", "signature": "sealed+signature=="},
        {"type": "text", "text": "I try it."},
        {"type": "tool_use", "id": "toolu_str_replace", "name": "str_replace", "input": EDIT},
    ]
    assert history[2]["content"][0]["tool_use_id"] == "toolu_str_replace"
    usage = proposal.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (1010, 800, 40)
    # claude-opus-5-5: $4 in, $0.20 cached, $5 and $8 written (5 min, 1 h), $20 out, each a million tokens.
    assert usage.dollars == pytest.approx((110 * 4 + 800 * 0.2 + 40 * 5 + 60 * 8 + 40 * 20) / 1e6)
    assert "(79% cached)" in heard.texts("note")[-1]


async def test_claude_without_adaptive_thinking_is_asked_without() -> None:
    refusal = Reply(
        status=400,
        body={
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "thinking: no adaptive"},
        },
    )
    turns = [
        wire.message(wire.tool_use("str_replace", **EDIT)),
        wire.message(wire.tool_use("submit", **SUBMIT)),
    ]
    async with Wire(refusal, *turns) as peer:
        await propose(agent("claude", peer.url), Heard())
    assert ["thinking" in body for _, _, body in peer.requests] == [True, False, False]


async def test_an_error_in_the_middle_of_a_claude_stream_is_retried() -> None:
    overloaded: wire.Event = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    broken = wire.message(wire.text("I will "), stop=None)
    broken.events.append(overloaded)
    turns = [
        wire.message(wire.tool_use("str_replace", **EDIT)),
        wire.message(wire.tool_use("submit", **SUBMIT)),
    ]
    heard = Heard()
    async with Wire(broken, *turns) as peer:
        await propose(agent("claude", peer.url), heard)
    assert heard.texts("retry")[0].startswith("Anthropic: Overloaded; again in")


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


async def test_chat_servers_differ() -> None:
    """Reasoning beside the standard, calls in one piece, `stop` after a call, no usage, no stream_options."""
    refusal = Reply(status=400, body={"error": {"message": "unknown field stream_options"}})
    turns = [
        wire.chunks(
            {"reasoning_content": "Smaller "},
            {"reasoning": "X?"},
            wire.tool_call("str_replace", **EDIT),
            finish="stop",
        ),
        wire.chunks({"content": "Done. "}, wire.tool_call("submit", **SUBMIT)),
    ]
    served = Reply(
        body={
            "object": "list",
            "data": [{"id": "my-model", "object": "model", "created": 0, "owned_by": "me"}],
        }
    )
    heard = Heard()
    async with Wire(served, refusal, *turns) as peer:
        proposal = await propose(agent("chat", peer.url, model=""), heard)
    assert [path for path, _, _ in peer.requests] == ["/v1/models", *["/v1/chat/completions"] * 3]
    assert peer.body(2)["model"] == "my-model"
    assert "stream_options" not in peer.body(2)
    assert heard.texts("thinking") == ["Smaller X?"]
    assert "serves my-model" in heard.texts("note")[0]
    assert "no price known for my-model" in heard.texts("note")[-1]
    assert proposal.usage.dollars is None
    history = peer.body(3)["messages"]
    assert [m["role"] for m in history] == ["system", "user", "assistant", "tool"]
    assert history[3]["tool_call_id"] == history[2]["tool_calls"][0]["id"] == "c_str_replace"


PIECES = [
    "Zwei ",
    "Wörter",
    ", 三つ",
    "🙂",
    "\n\n",
    "  indented\t",
    "<b>&amp;</b>",
    " [red]markup[/]",
    ".",
    " end",
]


def _spoken(api: str) -> list[Reply]:
    """A turn of many pieces and a tool call, then the submission."""
    if api == "claude":
        first = wire.message(wire.text(*PIECES), wire.tool_use("str_replace", **EDIT))
        return [first, wire.message(wire.tool_use("submit", **SUBMIT))]
    if api == "responses":
        item = wire.output_text("".join(PIECES))
        first = wire.response(item, wire.function_call("str_replace", **EDIT))
        return [first, wire.response(wire.function_call("submit", **SUBMIT))]
    deltas: list[Any] = [{"content": piece} for piece in PIECES]
    first = wire.chunks(*deltas, wire.tool_call("str_replace", **EDIT))
    return [first, wire.chunks(wire.tool_call("submit", **SUBMIT))]


@pytest.mark.parametrize("api", ["claude", "responses", "chat"])
async def test_no_piece_is_lost_or_doubled_on_its_way_to_the_disk(repository: Path, api: str) -> None:
    async with Wire(*_spoken(api)) as peer:
        bench = Bench(repository, agent(api, peer.url), max_experiments=2, budget_s=0.05)
        await finish(bench)
    sent = [text for _, event in peer.sent if (text := _text(event))]
    assert len(sent) > 5
    lines = bench.paths.transcript(2).read_bytes().splitlines()
    kept = [msgspec.json.decode(line, type=ev.AgentDelta) for line in lines]
    assert [delta.text for delta in kept if delta.kind == "text"] == sent
    shown = [delta.text for delta in bench.events(ev.AgentDelta) if delta.n == 2 and delta.kind == "text"]
    assert shown == sent


def _text(event: dict[str, Any]) -> str:
    """What a streamed event says."""
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    delta = event.get("delta")
    if isinstance(delta, dict) and delta.get("type") == "text_delta":
        return str(delta["text"])
    choices = event.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


@pytest.mark.parametrize("api", ["claude", "responses", "chat"])
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
    async with Wire(refusal, *_spoken(api), *_spoken(api)) as peer:
        asked = agent(api, peer.url)
        assert (await asked.propose(given, heard)).description == "X to 2.0"
        await propose(asked, heard, msgspec.structs.replace(given, n=201))
    assert "begun anew with a prompt of at most" in heard.texts("note")[0]
    first, second, _, third, _ = (len(msgspec.json.encode(body)) for _, _, body in peer.requests)
    assert second < 0.65 * first
    assert third == pytest.approx(second, rel=0.05)

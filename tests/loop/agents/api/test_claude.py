"""What agent `claude` sends and reads: caching, thinking carried on, and errors in the middle of a stream."""

from __future__ import annotations

import pytest

from loop.agents.api.claude import ClaudeAgent
from tests.loop.agents.api import wire
from tests.loop.agents.api.mock import KEY, agent
from tests.loop.agents.api.wire import EDIT, SUBMIT, Reply, Wire
from tests.loop.agents.world import Heard, context, propose


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


@pytest.mark.parametrize("words", ["thinking: no adaptive", "Unsupported parameter: 'reasoning.effort'"])
async def test_claude_without_adaptive_thinking_is_asked_without(words: str) -> None:
    """A proxy speaks of it by the name that it has with the vendor behind."""
    refusal = Reply(
        status=400,
        body={
            "type": "error",
            "error": {"type": "invalid_request_error", "message": words},
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


async def test_empty_words_are_not_sent_back_and_a_human_speaks_in_the_same_message() -> None:
    """The API refuses empty text blocks, and two messages of the user in a row."""
    news = [[], ["try a smaller X"], [], []]
    turns = [
        wire.message(wire.text(""), wire.tool_use("view")),
        wire.message(wire.tool_use("str_replace", **EDIT)),
        wire.message(wire.tool_use("submit", **SUBMIT)),
    ]
    async with Wire(*turns) as peer:
        await propose(agent("claude", peer.url), Heard(), context(hear=lambda: news.pop(0)))
    history = peer.body(1)["messages"]
    assert [message["role"] for message in history] == ["user", "assistant", "user"]
    assert [block["type"] for block in history[1]["content"]] == ["tool_use"]
    assert [block["type"] for block in history[2]["content"]] == ["tool_result", "text"]
    assert history[2]["content"][1]["text"] == "The human says: try a smaller X"


async def test_a_claude_agent_that_was_never_used_can_be_closed() -> None:
    agent = ClaudeAgent(KEY, "m")
    assert agent.secrets == (KEY,)
    await agent.close()

"""What agent `gpt` sends and reads in Chat Completions, however servers differ."""

from __future__ import annotations

from tests.loop.agents.api import wire
from tests.loop.agents.api.mock import agent
from tests.loop.agents.api.wire import EDIT, SUBMIT, Reply, Wire
from tests.loop.agents.world import Heard, propose


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


def piece(arguments: str, **fields: object) -> wire.Event:
    """A piece of a streamed tool call."""
    return {"tool_calls": [{"function": {"arguments": arguments}, **fields}]}


async def test_a_call_in_pieces_is_put_together_with_and_without_indexes() -> None:
    edit = '{"old": "X = 3.0", "new": "X = 2.0"}'
    indexed = wire.chunks(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "str_replace", "arguments": edit[:9]}}]},
        piece(edit[9:20], index=0),
        piece(edit[20:], index=0),
    )
    submit = '{"description": "X to 2.0"}'
    bare = wire.chunks(
        {"tool_calls": [{"id": "b", "function": {"name": "view", "arguments": "{"}}]},
        piece("}"),
        {"tool_calls": [{"id": "c", "function": {"name": "submit", "arguments": submit[:9]}}]},
        piece(submit[9:]),
    )
    heard = Heard()
    async with Wire(indexed, bare) as peer:
        proposal = await propose(agent("chat", peer.url), heard)
    assert proposal.description == "X to 2.0"
    assert [text.splitlines()[0] for text in heard.texts("tool")] == [
        "train.py +1 -1: X = 3.0 -> 2.0", "train.py from line 1", "X to 2.0",
    ]  # fmt: skip
    sent = peer.body(1)["messages"][2]["tool_calls"][0]
    assert sent == {"id": "a", "type": "function", "function": {"name": "str_replace", "arguments": edit}}


async def test_usage_is_counted_where_a_server_tells_it() -> None:
    used = {
        "prompt_tokens": 900, "completion_tokens": 70, "total_tokens": 970,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }  # fmt: skip
    turns = [
        wire.chunks(wire.tool_call("str_replace", **EDIT), usage=used),
        wire.chunks(wire.tool_call("submit", **SUBMIT), usage=used),
    ]
    async with Wire(*turns) as peer:
        usage = (await propose(agent("chat", peer.url), Heard())).usage
    assert peer.body(0)["stream_options"] == {"include_usage": True}
    assert (usage.input_tokens, usage.cached_tokens) == (1800, 800)
    assert (usage.output_tokens, usage.reasoning_tokens) == (140, 40)


async def test_an_answer_that_ends_too_early_is_asked_for_again() -> None:
    turns = [
        wire.chunks({"content": "I will "}, finish=None),
        wire.chunks(wire.tool_call("str_replace", **EDIT)),
        wire.chunks(wire.tool_call("submit", **SUBMIT)),
    ]
    heard = Heard()
    async with Wire(*turns) as peer:
        await propose(agent("chat", peer.url), heard)
    assert "ended its answer too early; again in" in heard.texts("retry")[0]
    assert peer.body(1) == peer.body(0)

"""A provider's stream may hold anything: a turn is understood, or is a fault with a sentence, and no bug."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.agents import pricing
from loop.agents.api import bounded, warm_up
from loop.agents.api.chat import Chat
from loop.agents.api.claude import _Messages
from loop.agents.api.conversation import Dialogue, Turn
from loop.agents.api.gpt import _Responses
from loop.agents.base import Emit
from loop.agents.provider_errors import Fault, explain
from loop.agents.transcript import Transcript
from tests.hostile.test_parsers import mangled

EVENTS = {"claude": warm_up.MESSAGES, "responses": warm_up.RESPONSES, "chat": warm_up.CHAT}
FAILED: list[dict[str, Any]] = [
    {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}},
    {"type": "response.failed", "sequence_number": 1, "response": {"status": "failed", "error": None}},
    {"error": {"message": "no more", "type": "server_error", "code": 7}},
    {"type": "message_start"},
    {"type": "content_block_delta", "index": 99, "delta": {"type": "text_delta", "text": "x"}},
    {"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]},
    {"choices": [{"delta": {"tool_calls": [{"index": None, "function": None}]}}], "usage": {}},
    {"type": "response.completed", "response": {"status": "completed", "output": [{"type": "x"}]}},
]
"""Events that say too little, or something else than what their place asks for."""


def streams(api: str) -> st.SearchStrategy[bytes]:
    """Streams of events, whole or not, in order or not, with anything in the place of a piece of them."""
    pieces = [
        f"event: {event.get('type', '')}\ndata: {json.dumps(event)}\n\n".replace("event: \n", "").encode()
        for event in EVENTS[api]
    ]
    odd = [f"event: {e.get('type', 'x')}\ndata: {json.dumps(e)}\n\n".encode() for e in FAILED]
    odd += [b"data: [DONE]\n\n", b"data: null\n\n", b"data: []\n\n", b": ping\n\n", b"data: 1\r\n\r\n"]
    mixed = st.lists(st.sampled_from(pieces + odd), max_size=12).map(b"".join)
    changed = st.tuples(st.integers(0, len(pieces) - 1), mangled(pieces)).map(
        lambda made: b"".join([*pieces[: made[0]], made[1], *pieces[made[0] + 1 :]])
    )
    return st.just(b"".join(pieces)) | mixed | changed | mangled([b"".join(pieces)])


def silent(event: object) -> None:
    pass


async def turn(api: str, body: bytes, status: int, emit: Emit = silent) -> Turn | Fault:
    """What a conversation makes of an answer. Raises what is a bug."""
    import anthropic
    import openai

    def reply(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": "text/event-stream"}, content=body)

    hooks: dict[str, list[Any]] = {"response": [bounded.bound]}
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(reply), event_hooks=hooks) as http:
        dialogue: Dialogue
        told: dict[str, Any] = {"api_key": "k", "base_url": "http://x", "http_client": http, "max_retries": 0}
        if api == "claude":
            dialogue = _Messages(anthropic.AsyncAnthropic(**told), "m", warm_up.START, set())
        elif api == "chat":
            dialogue = Chat(openai.AsyncOpenAI(**told), "m", warm_up.START, "", "it", set())
        else:
            dialogue = _Responses(openai.AsyncOpenAI(**told), "m", warm_up.START, "", "t", set())
        try:
            return await dialogue.turn(Transcript(1, emit))
        except Exception as error:
            return explain(error, "it", "m", ("k",))


def fuzz(api: str, examples: int) -> None:
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None, deadline=None)
    @given(streams(api), st.sampled_from([200, 200, 200, 400, 429, 500]))
    def check(body: bytes, status: int) -> None:
        found = asyncio.run(turn(api, body, status))
        assert isinstance(found, Turn) or str(found)

    check()


def test_a_stream_of_a_compatible_server_may_hold_anything() -> None:
    fuzz("chat", 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("api", EVENTS)
def test_any_stream_may_hold_anything(api: str) -> None:
    fuzz(api, 500)


@pytest.mark.parametrize(
    "body", [b"", b": ping\n\n", b"data: [DONE]\n\n", b"data: null\n\n", b'data: {"": 1}\n\n']
)
@pytest.mark.parametrize("api", EVENTS)
def test_an_answer_without_its_events_is_a_fault(api: str, body: bytes) -> None:
    """As a proxy gives one that loses its server behind it."""
    assert isinstance(asyncio.run(turn(api, body, 200)), Fault)


@pytest.mark.parametrize("api", EVENTS)
def test_a_bug_of_ours_is_not_the_providers_fault(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking again for hours would not mend it."""
    body = "".join(f"event: {e.get('type', '')}\ndata: {json.dumps(e)}\n\n" for e in EVENTS[api])
    whole = body.replace("event: \n", "").encode()

    def bug(*_: object, **__: object) -> Any:
        raise AttributeError("ours")

    assert isinstance(asyncio.run(turn(api, whole, 200)), Turn)
    with pytest.raises(AttributeError, match="ours"):
        asyncio.run(turn(api, whole, 200, emit=bug))
    monkeypatch.setattr(pricing, "usage", bug)
    with pytest.raises(AttributeError, match="ours"):
        asyncio.run(turn(api, whole, 200))

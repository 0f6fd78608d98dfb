"""Warms up a provider's library: it parses a made-up answer before the first real one comes.

Both libraries build the parser of an event when the first such event comes. That takes most of a second, in
which the engine would stand still and show nothing. So it is done in the thread that imports the library. The
made-up answers also tell a usage, so that the prices are loaded there too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from loop.agents.api.conversation import Dialogue
from loop.agents.prompt import Prompt
from loop.agents.transcript import Transcript

if TYPE_CHECKING:
    import httpx2

START = Prompt("", [""])
"""The prompt of the made-up conversation."""


def build_parsers(events: Sequence[dict[str, Any]], begin: Callable[[httpx2.AsyncClient], Dialogue]) -> None:
    """Let a library parse a stream of `events`. `begin` makes the conversation with an HTTP client that
    answers with this stream.

    It runs an event loop of its own, so it must be called in a thread. Errors are ignored: without a warm-up
    the first answer is only slower.
    """
    import httpx2

    lines = [f"event: {event.get('type', '')}\ndata: {json.dumps(event)}\n\n" for event in events]
    body = "".join(lines).replace("event: \n", "").encode()

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    transport = httpx2.MockTransport(answer)

    async def turn() -> None:
        async with httpx2.AsyncClient(transport=transport) as client:
            await begin(client).turn(Transcript(0, lambda event: None))

    with contextlib.suppress(Exception):
        asyncio.run(turn())


_MESSAGE: dict[str, Any] = {
    "id": "m", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None,
    "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
_BLOCKS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "x"},
    ),
    ({"type": "text", "text": ""}, {"type": "text_delta", "text": "x"}),
    (
        {"type": "tool_use", "id": "t", "name": "view", "input": {}},
        {"type": "input_json_delta", "partial_json": "{}"},
    ),
]
MESSAGES: list[dict[str, Any]] = [
    {"type": "message_start", "message": _MESSAGE},
    *(
        event
        for index, (block, delta) in enumerate(_BLOCKS)
        for event in (
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        )
    ),
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]
"""A made-up turn of Anthropic's Messages API: thinking, text and a tool call."""

_CALL: dict[str, Any] = {
    "type": "function_call", "id": "f", "call_id": "c", "name": "view", "arguments": "{}",
    "status": "completed",
}  # fmt: skip
_RESPONSE: dict[str, Any] = {
    "id": "r", "object": "response", "created_at": 0, "model": "m", "status": "completed", "output": [_CALL],
    "parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "error": None,
    "incomplete_details": None,
    "usage": {
        "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2,
    },
}  # fmt: skip
_PLACE: dict[str, Any] = {"item_id": "i", "output_index": 0, "content_index": 0, "sequence_number": 0}
RESPONSES: list[dict[str, Any]] = [
    {"type": "response.output_text.delta", **_PLACE, "delta": "x", "logprobs": []},
    {
        "type": "response.output_text.delta",
        **_PLACE,
        "delta": "x",
    },  # without `logprobs`: as local servers send it
    {"type": "response.completed", "sequence_number": 1, "response": _RESPONSE},
]
"""A made-up turn of OpenAI's Responses API."""


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}


CHAT: list[dict[str, Any]] = [
    _chunk({"role": "assistant", "content": "x"}),
    _chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "view", "arguments": "{}"}}]}),
    {
        **_chunk({}, "tool_calls"),
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
]
"""A made-up turn of Chat Completions."""

"""One turn with a made-up answer, before the first real one.

Both providers' libraries build the parsers of their events when the first one comes: most of a second, in
which the engine stands still and no word is shown. So that is done beforehand, in the thread that loads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from loop.agents.api.conversation import Dialogue
from loop.agents.prompt import Prompt
from loop.agents.transcript import Voice

if TYPE_CHECKING:
    import httpx2

START = Prompt("", [""])


def rehearse(events: Sequence[dict[str, Any]], begin: Callable[[httpx2.AsyncClient], Dialogue]) -> None:
    """Stream `events` through a library. Whatever goes wrong here is of no account. Takes a thread."""
    import httpx2

    lines = [f"event: {event.get('type', '')}\ndata: {json.dumps(event)}\n\n" for event in events]
    body = "".join(lines).replace("event: \n", "").encode()

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    transport = httpx2.MockTransport(answer)

    async def turn() -> None:
        async with httpx2.AsyncClient(transport=transport) as client:
            await begin(client).turn(Voice(0, lambda event: None))

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
"""A turn of Anthropic's Messages API."""

_CALL: dict[str, Any] = {
    "type": "function_call", "id": "f", "call_id": "c", "name": "view", "arguments": "{}",
    "status": "completed",
}  # fmt: skip
_RESPONSE: dict[str, Any] = {
    "id": "r", "object": "response", "created_at": 0, "model": "m", "status": "completed", "output": [_CALL],
    "parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "error": None,
    "incomplete_details": None, "usage": None,
}  # fmt: skip
_PLACE: dict[str, Any] = {"item_id": "i", "output_index": 0, "content_index": 0, "sequence_number": 0}
RESPONSES: list[dict[str, Any]] = [
    {"type": "response.output_text.delta", **_PLACE, "delta": "x", "logprobs": []},
    {"type": "response.output_text.delta", **_PLACE, "delta": "x"},  # as servers of one's own send it
    {"type": "response.completed", "sequence_number": 1, "response": _RESPONSE},
]
"""A turn of OpenAI's Responses API."""


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}


CHAT: list[dict[str, Any]] = [
    _chunk({"role": "assistant", "content": "x"}),
    _chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "view", "arguments": "{}"}}]}),
    _chunk({}, "tool_calls"),
]
"""A turn of Chat Completions."""

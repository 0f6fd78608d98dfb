"""A real HTTP server that streams exactly the events a test gives it, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

from msgspec import Struct, field

Event = dict[str, Any]


EDIT: Event = {"old": "X = 3.0", "new": "X = 2.0"}
SUBMIT: Event = {"description": "X to 2.0", "hypothesis": "smaller is better"}
"""Arguments of str_replace and submit with which a model improves the trainer of the tests."""


class Reply(Struct):
    """One answer: events as a stream with pauses (seconds) between them, or an error of this status."""

    events: list[Event | float] = field(default_factory=list)
    status: int = 200
    body: Event | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Wire:
    """Answers requests in order with what `replies` holds."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[tuple[str, dict[str, str], Event]] = []
        """Path, headers and body of each request."""
        self.sent: list[tuple[float, Event]] = []
        """When which event went out."""

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def body(self, n: int) -> Event:
        return self.requests[n][2]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:]) if k}
            raw = await reader.readexactly(int(headers.get("content-length", 0)))
            self.requests.append((head[0].split()[1], headers, json.loads(raw or b"{}")))
            reply = (
                self.replies.pop(0) if self.replies else Reply(status=500, body={"error": "no more replies"})
            )
            kind = "text/event-stream" if reply.status == 200 and reply.body is None else "application/json"
            lines = [f"HTTP/1.1 {reply.status} X", f"content-type: {kind}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in reply.headers.items()]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            if reply.body is not None:
                writer.write(json.dumps(reply.body).encode())
            for event in reply.events:
                if isinstance(event, float):
                    await asyncio.sleep(event)
                    continue
                name = f"event: {event['type']}\n" if "type" in event else ""
                writer.write(f"{name}data: {json.dumps(event)}\n\n".encode())
                await writer.drain()
                self.sent.append((time.time(), event))
        writer.close()


# --- Anthropic Messages ---


def message(*blocks: list[Event | float], stop: str | None = "tool_use", usage: Event | None = None) -> Reply:
    """A message of content blocks, each made by `text`, `thinking` or `tool_use`."""
    used = {"input_tokens": 10, "output_tokens": 1, **(usage or {})}
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m"}
    events: list[Event | float] = [
        {
            "type": "message_start",
            "message": {**start, "stop_reason": None, "stop_sequence": None, "usage": used},
        }
    ]
    for index, block in enumerate(blocks):
        events += [event if isinstance(event, float) else {**event, "index": index} for event in block]
    delta = {"stop_reason": stop, "stop_sequence": None}
    if stop is not None:
        events += [
            {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 20}},
            {"type": "message_stop"},
        ]
    return Reply(events)


def _block(content: Event, *deltas: Event | float) -> list[Event | float]:
    moved = [
        delta if isinstance(delta, float) else {"type": "content_block_delta", "delta": delta}
        for delta in deltas
    ]
    return [
        {"type": "content_block_start", "content_block": content},
        *moved,
        {"type": "content_block_stop"},
    ]


def text(*pieces: str | float) -> list[Event | float]:
    deltas = [p if isinstance(p, float) else {"type": "text_delta", "text": p} for p in pieces]
    return _block({"type": "text", "text": ""}, *deltas)


def thinking(words: str, signature: str) -> list[Event | float]:
    return _block(
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": words},
        {"type": "signature_delta", "signature": signature},
    )


def tool_use(name: str, **arguments: Any) -> list[Event | float]:
    written = json.dumps(arguments)
    half = len(written) // 2
    return _block(
        {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": {}},
        {"type": "input_json_delta", "partial_json": written[:half]},
        {"type": "input_json_delta", "partial_json": written[half:]},
    )


# --- OpenAI Responses ---


def response(*items: Event, status: str = "completed", pause: float = 0.0, **fields: Any) -> Reply:
    """A response of output items; texts and summaries are streamed word by word before it."""
    whole = {
        "id": "r", "object": "response", "created_at": 0, "model": "m", "status": status,
        "output": list(items),
        "parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "error": None,
        "incomplete_details": None, "usage": None, **fields,
    }  # fmt: skip
    events: list[Event | float] = []
    for index, item in enumerate(items):
        place = {"item_id": item.get("id", ""), "output_index": index, "sequence_number": 0}
        for part in item.get("summary", []):
            for word in part["text"].split(" "):
                kind = "response.reasoning_summary_text.delta"
                events.append({"type": kind, **place, "summary_index": 0, "delta": f"{word} "})
        for part in item.get("content", []):
            for word in part["text"].split(" "):
                kind = "response.output_text.delta"
                events += [{"type": kind, **place, "content_index": 0, "delta": f"{word} "}, pause]
    return Reply([*events, {"type": f"response.{status}", "sequence_number": 9, "response": whole}])


def function_call(name: str, **arguments: Any) -> Event:
    return {
        "type": "function_call", "id": f"fc_{name}", "call_id": f"call_{name}", "name": name,
        "arguments": json.dumps(arguments), "status": "completed",
    }  # fmt: skip


def output_text(words: str) -> Event:
    part = {"type": "output_text", "text": words, "annotations": []}
    return {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [part]}


# --- OpenAI Chat Completions ---


def chunks(*deltas: Event | float, finish: str | None = "tool_calls", usage: Event | None = None) -> Reply:
    """A stream of deltas of the first choice."""

    def chunk(delta: Event, finish: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}

    events: list[Event | float] = [d if isinstance(d, float) else chunk(d) for d in deltas]
    if finish:
        events.append(chunk({}, finish))
    if usage:
        events.append({**chunk({}), "choices": [], "usage": usage})
    return Reply(events)


def tool_call(name: str, **arguments: Any) -> Event:
    """A call as some servers send it: whole, in one piece."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"index": 0, "id": f"c_{name}", "type": "function", "function": function}]}


# --- the same conversation in each format ---

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


def spoken(api: str) -> list[Reply]:
    """A turn of many pieces and a tool call, then the submission."""
    if api == "claude":
        first = message(text(*PIECES), tool_use("str_replace", **EDIT))
        return [first, message(tool_use("submit", **SUBMIT))]
    if api == "responses":
        item = output_text("".join(PIECES))
        first = response(item, function_call("str_replace", **EDIT))
        return [first, response(function_call("submit", **SUBMIT))]
    deltas: list[Any] = [{"content": piece} for piece in PIECES]
    first = chunks(*deltas, tool_call("str_replace", **EDIT))
    return [first, chunks(tool_call("submit", **SUBMIT))]

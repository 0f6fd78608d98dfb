"""The wire formats of four vendors: what a request says (`seen_by_...`), and a reply as they stream it.

Written from what the real CLI agents send and accept; only as much of each format as they use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.real_agents.researcher import Reply, Seen, dumped

Event = tuple[str, dict[str, Any]]
"""Name (empty where the format has none) and data of an event of a stream."""
INPUT, CACHED, OUTPUT = 4200, 3000, 60
"""Tokens that each answer is said to have taken."""


def _text(content: Any) -> str:
    """All text in a piece of a conversation."""
    if isinstance(content, list):
        return "\n".join(_text(part) for part in content)
    if isinstance(content, dict):
        return _text(content.get("text") or content.get("content") or "")
    return content if isinstance(content, str) else ""


def _seen(body: Any, tools: dict[str, Any], turns: list[tuple[str, str]]) -> Seen:
    """`turns` are (`user` | `call`, text), in order. What agents add to a message is no message."""
    last, calls = "", 0
    for kind, text in turns:
        if kind == "user" and text and not re.match(r"<(system-reminder|environment_context)", text):
            last, calls = text, 0
        elif kind == "call":
            calls += 1
    return Seen(json.dumps(body), tools, last, calls)


def seen_by_anthropic(body: Any) -> Seen:
    turns = []
    for message in body.get("messages", []):
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text" and message["role"] == "user":
                turns.append(("user", part["text"]))
            elif part["type"] == "tool_use":
                turns.append(("call", ""))
    return _seen(body, {t["name"]: t.get("input_schema") for t in body.get("tools") or []}, turns)


def anthropic(reply: Reply, body: Any) -> Iterator[Event]:
    usage = {
        "input_tokens": INPUT - CACHED, "cache_read_input_tokens": CACHED, "cache_creation_input_tokens": 0,
        "output_tokens": OUTPUT,
    }  # fmt: skip
    stop = "tool_use" if reply.tool else "end_turn"
    whole = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model"), "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    yield "message_start", {"message": whole}
    blocks: list[tuple[dict[str, Any], dict[str, Any]]] = []
    if reply.text:
        blocks.append(({"type": "text", "text": ""}, {"type": "text_delta", "text": reply.text}))
    if reply.tool:
        start = {"type": "tool_use", "id": f"toolu_{id(reply)}", "name": reply.tool, "input": {}}
        blocks.append((start, {"type": "input_json_delta", "partial_json": dumped(reply.arguments)}))
    for index, (start, delta) in enumerate(blocks):
        yield "content_block_start", {"index": index, "content_block": start}
        yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    yield "message_delta", {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage}
    yield "message_stop", {}


def seen_by_responses(body: Any) -> Seen:
    tools: dict[str, Any] = {}
    for tool in body.get("tools") or []:
        for one in tool.get("tools", [tool]):  # some come in a namespace
            tools[one.get("name") or one["type"]] = (
                "free" if one["type"] == "custom" else one.get("parameters")
            )
    turns = []
    for item in body.get("input", []):
        kind = item.get("type", "message")
        if kind == "message" and item["role"] == "user":
            turns.append(("user", _text(item["content"])))
        elif kind.endswith("call"):
            turns.append(("call", ""))
    return _seen(body, tools, turns)


def responses(reply: Reply, body: Any) -> Iterator[Event]:
    items: list[dict[str, Any]] = []
    if reply.text:
        said = {"type": "output_text", "text": reply.text, "annotations": []}
        items.append({
            "id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [said],
        })  # fmt: skip
    if reply.tool:
        call = {
            "id": f"fc_{id(reply)}",
            "call_id": f"call_{id(reply)}",
            "name": reply.tool,
            "status": "completed",
        }
        if isinstance(reply.arguments, str):
            items.append({**call, "type": "custom_tool_call", "input": reply.arguments})
        else:
            items.append({**call, "type": "function_call", "arguments": dumped(reply.arguments)})
    usage = {
        "input_tokens": INPUT, "input_tokens_details": {"cached_tokens": CACHED}, "output_tokens": OUTPUT,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": INPUT + OUTPUT,
    }  # fmt: skip
    whole = {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
        "model": body.get("model"), "output": items, "usage": usage, "error": None,
        "incomplete_details": None, "tools": [],
    }  # fmt: skip
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield "response.created", {"response": started}
    for index, item in enumerate(items):
        yield "response.output_item.added", {"output_index": index, "item": {**item, "content": []}}
        if item["type"] == "message":
            where = {"item_id": item["id"], "output_index": index, "content_index": 0}
            yield "response.output_text.delta", {**where, "delta": reply.text, "logprobs": []}
        yield "response.output_item.done", {"output_index": index, "item": item}
    yield "response.completed", {"response": whole}


def seen_by_chat(body: Any) -> Seen:
    turns = []
    for message in body.get("messages", []):
        if message["role"] == "user":
            turns.append(("user", _text(message.get("content"))))
        turns += [("call", "") for _ in message.get("tool_calls") or []]
    tools = {t["function"]["name"]: t["function"].get("parameters") for t in body.get("tools") or []}
    return _seen(body, tools, turns)


def chat(reply: Reply, body: Any) -> Iterator[Event]:
    usage = {
        "prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
        "prompt_tokens_details": {"cached_tokens": CACHED},
    }  # fmt: skip
    delta: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool:
        function = {"name": reply.tool, "arguments": dumped(reply.arguments)}
        call = {"index": 0, "id": f"call_{id(reply)}", "type": "function", "function": function}
        delta["tool_calls"] = [call]
    base = {"id": "chat_1", "object": "chat.completion.chunk", "created": 1, "model": body.get("model")}
    finish = "tool_calls" if reply.tool else "stop"
    yield "", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield "", {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    yield "", {**base, "choices": [], "usage": usage}


def chat_whole(reply: Reply, body: Any) -> dict[str, Any]:
    """A reply in one piece, for a request that asks for no stream."""
    first, _, last = (event for _, event in chat(reply, body))
    message = first["choices"][0]["delta"]
    return {**first, "object": "chat.completion", "usage": last["usage"], "choices": [
        {"index": 0, "message": message, "finish_reason": "stop"}
    ]}  # fmt: skip


def seen_by_gemini(body: Any) -> Seen:
    turns = []
    for content in body.get("contents") or []:
        for part in content.get("parts", []):
            if "functionCall" in part:
                turns.append(("call", ""))
            elif "text" in part and content.get("role") == "user":
                turns.append(("user", part["text"]))
    tools = {
        f["name"]: f.get("parametersJsonSchema") or f.get("parameters")
        for tool in body.get("tools") or []
        for f in tool.get("functionDeclarations") or []
    }
    return _seen(body, tools, turns)


def gemini(reply: Reply, body: Any) -> Iterator[Event]:
    parts: list[dict[str, Any]] = [{"text": reply.text}] if reply.text else []
    if reply.tool:
        call = {"name": reply.tool, "args": reply.arguments, "id": f"fc{id(reply)}"}
        parts.append({"functionCall": call, "thoughtSignature": "c2ln"})
    wanted = (body.get("generationConfig") or {}).get("responseJsonSchema")
    if wanted:  # it asks which model suits the task
        names = wanted.get("properties", {})
        parts = [{"text": json.dumps({n: p.get("enum", ["x"])[0] for n, p in names.items()})}]
    usage = {
        "promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT, "totalTokenCount": INPUT + OUTPUT,
        "cachedContentTokenCount": CACHED,
    }  # fmt: skip
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0, "finishReason": "STOP"}
    yield "", {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3.8-flash"}

"""Speaks Chat Completions for agent `gpt`: with vLLM, llama.cpp, Ollama, LM Studio, OpenRouter and others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from loop.agents import pricing, prompt
from loop.agents.api import toolbox
from loop.agents.api.conversation import Answer, Call, Stop, Turn, drop_if_refused, sendable
from loop.agents.api.reading import next_event, openai_tokens, reading, text
from loop.agents.pricing import Tokens
from loop.agents.provider_errors import Fault
from loop.agents.transcript import Transcript
from loop.events import Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# What the API's names for the end of a turn mean.
STOPS: dict[str, Stop] = {
    "stop": "end",
    "tool_calls": "tools",
    "function_call": "tools",
    "length": "cut",
    "content_filter": "refused",
}


class _Pieces:
    """What a stream has brought so far. Some servers leave out the ids and indexes of tool calls."""

    def __init__(self) -> None:
        self.text = ""
        self.finish: str | None = None
        self.usage: Any = None
        self.calls: dict[int, dict[str, str]] = {}

    def take(self, chunk: Any) -> tuple[str, str]:
        """Take in a part of an answer; returns what it adds to the model's thoughts and to what it says."""
        thought = said = ""
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices[:1]:
            self.finish = choice.finish_reason or self.finish
            delta = choice.delta
            # Not standard: `reasoning_content` (vLLM, llama.cpp), `reasoning` (OpenRouter, Ollama).
            found = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
            thought = found if isinstance(found, str) else ""
            said = text(delta.content or "")
            self.text += said
            for piece in delta.tool_calls or []:
                self._add_call(piece)
        return thought, said

    def _add_call(self, piece: Any) -> None:
        """Add a piece to the tool call that it belongs to."""
        index = piece.index
        if index is None:
            index = max(self.calls, default=-1) + (1 if piece.id or not self.calls else 0)
        call = self.calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        call["id"] = call["id"] or text(piece.id or "")
        if piece.function:
            call["name"] = call["name"] or text(piece.function.name or "")
            call["arguments"] += piece.function.arguments or ""


class Chat:
    """One conversation in the format of Chat Completions. It is a `Dialogue`.

    `refused` names the options that the server has refused; conversations with the same server share it.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str,
        start: prompt.Prompt,
        base_url: str,
        who: str,
        refused: set[str],
    ) -> None:
        self._client, self._model, self._base_url, self._who = client, model, base_url, who
        self._refused = refused
        self._history: list[dict[str, Any]] = [
            {"role": "system", "content": start.system},
            {"role": "user", "content": "\n\n".join(start.parts)},
        ]
        self._tools = [{"type": "function", "function": toolbox.function(t)} for t in toolbox.TOOLS]

    async def turn(self, transcript: Transcript) -> Turn:
        # Some servers refuse this option. They tell no usage then.
        return await drop_if_refused(
            {"stream_options": ("stream_options",)}, self._refused, partial(self._turn, transcript)
        )

    async def _turn(self, transcript: Transcript) -> Turn:
        options: dict[str, Any] = {}
        if "stream_options" not in self._refused:
            options["stream_options"] = {"include_usage": True}
        stream: Any = await self._client.chat.completions.create(
            model=self._model,
            messages=self._history,  # type: ignore[arg-type]
            tools=self._tools,  # type: ignore[arg-type]
            stream=True,
            **options,
        )
        got, text_id, thought_id = _Pieces(), transcript.new(), transcript.new()
        async with stream:
            chunks = aiter(stream)
            while (chunk := await next_event(chunks, self._who)) is not None:
                with reading(self._who):
                    thought, said = got.take(chunk)
                transcript.say("thinking", thought, thought_id)
                transcript.say("text", said, text_id)
        if got.finish is None:
            raise Fault("retry", f"{self._who} ended its answer too early")
        return self._finish(got)

    def _finish(self, got: _Pieces) -> Turn:
        """Add a whole turn to the history, and return it."""
        with reading(self._who):
            tokens = _tokens(got.usage)
        calls = [
            Call(call["id"] or f"call_{len(self._history)}_{index}", call["name"], call["arguments"])
            for index, call in sorted(got.calls.items())
        ]
        stop = STOPS.get(str(got.finish), "end")
        if stop in ("tools", "end"):
            stop = "tools" if calls else "end"  # some servers say `stop` after tool calls
            self._history.append(_message(got.text, calls))
        usage = (
            pricing.usage(tokens, self._model, provider="openai", url=self._base_url) if tokens else Usage()
        )
        return Turn(calls if stop == "tools" else [], stop, usage)

    def answer(self, answers: list[Answer]) -> None:
        self._history += [{"role": "tool", "tool_call_id": a.id, "content": a.text} for a in answers]

    def say(self, text: str) -> None:
        self._history.append({"role": "user", "content": text})


def _tokens(u: Any) -> Tokens | None:
    """What a turn has used; None when the server does not tell."""
    if u is None:
        return None
    return openai_tokens(
        u.prompt_tokens, u.prompt_tokens_details, u.completion_tokens, u.completion_tokens_details
    )


def _message(said: str, calls: list[Call]) -> dict[str, Any]:
    """The model's turn as it is sent back to the server with the next request."""
    message: dict[str, Any] = {"role": "assistant", "content": said or (None if calls else "(nothing)")}
    if calls:
        message["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": sendable(c.arguments)}}
            for c in calls
        ]
    return message

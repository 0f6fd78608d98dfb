"""Agent `claude`: speaks Anthropic's Messages API, with streaming, prompt caching and summarized thinking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from loop.agents import pricing, prompt
from loop.agents.api import toolbox, warm_up
from loop.agents.api.conversation import (
    Answer,
    Call,
    Dialogue,
    Peer,
    Stop,
    Turn,
    answer,
    drop_if_refused,
    research,
)
from loop.agents.api.reading import count, next_event, reading, text
from loop.agents.base import Bounds, Emit, Proposal, ResearchContext
from loop.agents.checks import Tried
from loop.agents.pricing import Tokens
from loop.agents.provider_errors import Fault
from loop.agents.transcript import Transcript
from loop.events import Usage

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import Message

OUTPUT_MOST = 32_000
"""Tokens that one turn may have."""
SILENCE_S = 300.0
"""A stream that sends nothing for so long is given up. The API sends pings while the model thinks."""
REFUSABLE = {"thinking": ("thinking", "reasoning")}
"""Options that some models refuse: older ones, and those of other vendors behind a proxy."""
LASTING = {"type": "ephemeral", "ttl": "1h"}
"""Caches a part of the prompt for an hour: five minutes, as usual, would not last to the next experiment."""
# Which field of a piece of an answer has its text.
PIECES: dict[str, Literal["text", "thinking", "partial_json"]] = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
# What the API's names for the end of a turn mean.
STOPS: dict[str, Stop] = {
    "tool_use": "tools",
    "end_turn": "end",
    "stop_sequence": "end",
    "pause_turn": "end",
    "max_tokens": "cut",
    "refusal": "refused",
    "model_context_window_exceeded": "overflow",
}


class ClaudeAgent:
    """Proposes experiments through a Claude model. A bad key is noticed with the first proposal only."""

    name = "claude"

    def __init__(
        self,
        key: str,
        model: str,
        base_url: str = "",
        bounds: Bounds | None = None,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.model = model
        self._key, self._base_url, self._silence_s = key, base_url, silence_s
        self._bounds = bounds or Bounds()
        self._peer = Peer("Anthropic", model, (key,))
        self.secrets = self._peer.secrets
        self._tried = Tried()
        self._client: AsyncAnthropic | None = None
        self._connecting = asyncio.Lock()
        self._refused: set[str] = set()

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        begin, transcript = await self._begin(), Transcript(context.n, emit)
        return await research(context, begin, self._tried, transcript, self._peer, self._bounds)

    async def answer(self, context: ResearchContext, question: str, emit: Emit) -> Usage:
        begin, transcript = await self._begin(), Transcript(context.n, emit)
        return await answer(context, question, begin, transcript, self._peer, self._bounds)

    async def _begin(self) -> Callable[[prompt.Prompt], Dialogue]:
        """What begins a conversation, once the library is there."""
        async with self._connecting:  # several conversations may begin at once
            if self._client is None:
                self._client = await asyncio.to_thread(self._connect)
            client = self._client
        return lambda start: _Messages(client, self.model, start, self._refused)

    def _connect(self) -> AsyncAnthropic:
        """Import the library, warm it up and make the client. Call it in a thread: it takes a second."""
        import httpx2
        from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

        from loop.agents.api import bounded

        def begin(http: httpx2.AsyncClient) -> Dialogue:
            client = AsyncAnthropic(api_key="none", base_url="http://127.0.0.1", http_client=http)
            return _Messages(client, self.model, warm_up.START, set())

        warm_up.build_parsers(warm_up.MESSAGES, begin)
        return AsyncAnthropic(
            api_key=self._key,
            auth_token=None,
            base_url=self._base_url or None,
            max_retries=0,  # the conversation itself asks again for whole turns, and shows the wait
            timeout=httpx2.Timeout(self._silence_s, connect=20.0),
            default_headers=bounded.UNPACKED,
            http_client=DefaultAsyncHttpxClient(**bounded.CLIENT),
        )

    async def close(self) -> None:
        if self._client:
            await self._client.close()


class _Messages:
    """One conversation in the format of the Messages API. It is a `Dialogue`.

    `refused` names the options that the model has refused; conversations with the same model share it.
    """

    def __init__(self, client: AsyncAnthropic, model: str, start: prompt.Prompt, refused: set[str]) -> None:
        self._client, self._model, self._refused = client, model, refused
        self._system = [{"type": "text", "text": start.system, "cache_control": LASTING}]
        first: list[dict[str, Any]] = [{"type": "text", "text": part} for part in start.parts]
        for part in first[:-1]:
            part["cache_control"] = LASTING
        self._history: list[dict[str, Any]] = [{"role": "user", "content": first}]
        self._tools = [
            {"name": t.name, "description": toolbox.describe(t), "input_schema": toolbox.schema(t)}
            for t in toolbox.TOOLS
        ]

    async def turn(self, transcript: Transcript) -> Turn:
        return await drop_if_refused(REFUSABLE, self._refused, partial(self._turn, transcript))

    async def _turn(self, transcript: Transcript) -> Turn:
        options: dict[str, Any] = {}
        if "thinking" not in self._refused:
            options["thinking"] = {"type": "adaptive", "display": "summarized"}
        arguments: dict[int, str] = {}
        ids: dict[int, str] = {}
        async with self._client.messages.stream(
            model=self._model,
            max_tokens=OUTPUT_MOST,
            system=self._system,  # type: ignore[arg-type]
            messages=self._history,  # type: ignore[arg-type]
            tools=self._tools,  # type: ignore[arg-type]
            cache_control={"type": "ephemeral"},
            **options,
        ) as stream:
            events = aiter(stream)
            while (event := await next_event(events, "Anthropic")) is not None:
                with reading("Anthropic"):
                    piece = _piece(event)
                if piece is None:
                    continue
                index, kind, words = piece
                id = ids.setdefault(index, transcript.new())
                if kind == "partial_json":
                    arguments[index] = arguments.get(index, "") + words
                else:
                    transcript.say(kind, words, id)
            with reading("Anthropic"):
                message = await stream.get_final_message()
        if message.stop_reason is None:
            raise Fault("retry", "Anthropic ended its answer too early")
        return self._finish(message, arguments)

    def _finish(self, message: Message, arguments: dict[int, str]) -> Turn:
        """Add a whole turn to the history, thinking unchanged, and return it."""
        with reading("Anthropic"):
            stop = STOPS.get(str(message.stop_reason), "end")
            blocks = list(enumerate(message.content)) if stop in ("tools", "end") else []
            calls = [
                Call(block.id, block.name, arguments.get(index, ""))
                for index, block in blocks
                if block.type == "tool_use"
            ]
            content = [_param(block) for _, block in blocks if block.type != "text" or block.text.strip()]
            tokens = _tokens(message)
        if content:
            self._history.append({"role": "assistant", "content": content})
        if stop in ("tools", "end"):
            stop = "tools" if calls else "end"
        return Turn(calls, stop, pricing.usage(tokens, self._model, provider="anthropic"))

    def answer(self, answers: list[Answer]) -> None:
        content = [
            {"type": "tool_result", "tool_use_id": a.id, "content": a.text, "is_error": a.failed}
            for a in answers
        ]
        self._history.append({"role": "user", "content": content})

    def say(self, text: str) -> None:
        block = {"type": "text", "text": text}
        if self._history[-1]["role"] == "user":  # after tool results, in the same message
            self._history[-1]["content"].append(block)
        else:
            self._history.append({"role": "user", "content": [block]})


def _piece(event: Any) -> tuple[int, Literal["text", "thinking", "partial_json"], str] | None:
    """Number of the block, kind and text of a piece of an answer; None when an event is something else."""
    kind = PIECES.get(event.delta.type) if event.type == "content_block_delta" else None
    return (event.index, kind, text(getattr(event.delta, kind))) if kind else None


def _param(block: Any) -> dict[str, Any]:
    """A block of an answer as it is sent back with the next request."""
    known = ("type", "text", "id", "name", "input", "thinking", "signature", "data")
    sent = {key: value for key, value in block.to_dict().items() if key in known}
    if block.type == "tool_use" and not isinstance(sent.get("input"), dict):
        sent["input"] = {}
    return sent


def _tokens(message: Message) -> Tokens:
    """The tokens of an answer. The API counts new input, input read from a cache and input written to one
    apart; we count all of it as input."""
    u = message.usage
    read, written = u.cache_read_input_tokens or 0, u.cache_creation_input_tokens or 0
    hour = u.cache_creation.ephemeral_1h_input_tokens if u.cache_creation else 0
    details = u.output_tokens_details
    return Tokens(
        input=count(u.input_tokens) + read + written,
        cached=read,
        written=written - hour,
        written_1h=hour,
        output=count(u.output_tokens),
        reasoning=count(getattr(details, "thinking_tokens", None)),
    )

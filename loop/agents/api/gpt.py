"""Agent `gpt`: speaks OpenAI's Responses API, or Chat Completions with any other server (chat.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from loop.agents import pricing, prompt
from loop.agents.api import toolbox, warm_up
from loop.agents.api.chat import Chat
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
    sendable,
)
from loop.agents.api.reading import next_event, openai_tokens, reading, text
from loop.agents.base import AgentStopped, Bounds, Emit, Proposal, ResearchContext
from loop.agents.checks import Tried
from loop.agents.pricing import Tokens
from loop.agents.provider_errors import Fault, explain
from loop.agents.transcript import Transcript
from loop.events import Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.responses import Response

SILENCE_S = 600.0
"""A stream that sends nothing for so long is given up. Models may think for minutes without a sign."""

Api = Literal["responses", "chat"]
REFUSABLE = {"reasoning": ("reasoning",), "prompt_cache_key": ("prompt_cache_key",)}
"""Options that some models refuse: those that do not reason, and those of other vendors behind a proxy."""


class GptAgent:
    """Proposes experiments through an OpenAI model, or through any model that `base_url` serves.

    When `model` is empty, the first model that the server offers is used.
    """

    name = "gpt"

    def __init__(
        self,
        key: str,
        model: str,
        base_url: str = "",
        api: Api = "responses",
        bounds: Bounds | None = None,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.model, self.api = model, api
        self._key, self._base_url, self._silence_s = key, base_url, silence_s
        self._bounds = bounds or Bounds()
        self._peer = Peer("OpenAI" if not base_url else _host(base_url), model, (key,))
        self.secrets = self._peer.secrets
        self._tried = Tried()
        self._client: AsyncOpenAI | None = None
        self._connecting = asyncio.Lock()
        self._refused: set[str] = set()

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        transcript = Transcript(context.n, emit)
        begin = await self._begin(context, transcript)
        return await research(context, begin, self._tried, transcript, self._peer, self._bounds)

    async def answer(self, context: ResearchContext, question: str, emit: Emit) -> Usage:
        transcript = Transcript(context.n, emit)
        begin = await self._begin(context, transcript)
        return await answer(context, question, begin, transcript, self._peer, self._bounds)

    async def _begin(
        self, context: ResearchContext, transcript: Transcript
    ) -> Callable[[prompt.Prompt], Dialogue]:
        """What begins a conversation, once the library is there and the model is known."""
        async with self._connecting:  # several conversations may begin at once
            if self._client is None:
                self._client = await asyncio.to_thread(self._connect)
            client = self._client
        if not self.model:
            self.model = self._peer.model = await self._served(client)
            transcript.say("note", f"{self._peer.name} serves {self.model}")

        def begin(start: prompt.Prompt) -> Dialogue:
            if self.api == "chat":
                return Chat(client, self.model, start, self._base_url, self._peer.name, self._refused)
            return _Responses(client, self.model, start, self._base_url, context.tag, self._refused)

        return begin

    def _connect(self) -> AsyncOpenAI:
        """Import the library, warm it up and make the client. Call it in a thread: it takes a second."""
        import httpx2
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        from loop.agents.api import bounded

        def begin(http: httpx2.AsyncClient) -> Dialogue:
            client = AsyncOpenAI(api_key="none", base_url="http://127.0.0.1", http_client=http)
            if self.api == "chat":
                return Chat(client, "none", warm_up.START, "", "", set())
            return _Responses(client, "none", warm_up.START, "", "", set())

        warm_up.build_parsers(warm_up.CHAT if self.api == "chat" else warm_up.RESPONSES, begin)
        return AsyncOpenAI(
            api_key=self._key or "none",  # local servers need no key, but the library needs one
            base_url=self._base_url or None,
            max_retries=0,  # the conversation itself asks again for whole turns, and shows the wait
            timeout=httpx2.Timeout(self._silence_s, connect=20.0),
            default_headers=bounded.UNPACKED,
            http_client=DefaultAsyncHttpxClient(**bounded.CLIENT),
        )

    async def _served(self, client: AsyncOpenAI) -> str:
        """The first model that the server offers. Raises `AgentStopped` when it offers none."""
        try:
            page = await client.models.list()
        except Exception as error:
            fault = explain(error, self._peer.name, "", self._peer.secrets)
            raise AgentStopped(
                f"{fault}: check --base-url, or name the model with --model, then resume"
            ) from error
        if not page.data:
            raise AgentStopped(f"{self._peer.name} serves no model: load one, then resume")
        return page.data[0].id

    async def close(self) -> None:
        if self._client:
            await self._client.close()


def _host(url: str) -> str:
    """Host and port of a URL, by which a server is called in sentences."""
    from urllib.parse import urlsplit

    found = urlsplit(url)
    return f"{found.hostname or url}{f':{found.port}' if found.port else ''}"


class _Responses:
    """One conversation in the format of the Responses API. It is a `Dialogue`. The server stores nothing of
    it.

    `refused` names the options that the server has refused; conversations with the same server share it.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str,
        start: prompt.Prompt,
        base_url: str,
        tag: str,
        refused: set[str],
    ) -> None:
        self._client, self._model, self._base_url, self._tag = client, model, base_url, tag
        self._refused, self._system = refused, start.system
        parts = [{"type": "input_text", "text": part} for part in start.parts]
        self._history: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        self._tools = [
            # Not strict, so that optional fields stay optional; the toolbox checks every call.
            {"type": "function", **toolbox.function(t), "strict": False}
            for t in toolbox.TOOLS
        ]

    async def turn(self, transcript: Transcript) -> Turn:
        return await drop_if_refused(REFUSABLE, self._refused, partial(self._turn, transcript))

    async def _turn(self, transcript: Transcript) -> Turn:
        options: dict[str, Any] = {}
        if "reasoning" not in self._refused:
            options = {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        if "prompt_cache_key" not in self._refused:
            options["prompt_cache_key"] = f"autoresearch-{self._tag}"
        stream: Any = await self._client.responses.create(
            model=self._model,
            instructions=self._system,
            input=self._history,  # type: ignore[arg-type]
            tools=self._tools,  # type: ignore[arg-type]
            parallel_tool_calls=False,
            store=False,
            stream=True,
            **options,
        )
        ids: dict[tuple[str, int], str] = {}
        whole: Response | None = None
        async with stream:
            events = aiter(stream)
            while (event := await next_event(events, "OpenAI")) is not None:
                with reading("OpenAI"):
                    if event.type in ("response.completed", "response.incomplete", "response.failed"):
                        whole = event.response
                    piece = _piece(event)
                    id = ids.setdefault(piece[0], transcript.new()) if piece else ""
                if piece:
                    transcript.say(piece[1], piece[2], id)
        if whole is None:
            raise Fault("retry", "the answer ended too early")
        return self._finish(whole)

    def _finish(self, response: Response) -> Turn:
        """Add a whole turn to the history, reasoning included, and return it."""
        with reading("OpenAI"):
            if response.status == "failed":
                error = response.error
                raise Fault("retry", f"the answer failed ({error.message if error else 'no reason given'})")
            reason = response.incomplete_details.reason if response.incomplete_details else None
            output = [] if response.status == "incomplete" else response.output
            calls = [
                Call(item.call_id, item.name, item.arguments)
                for item in output
                if item.type == "function_call"
            ]
            items = [item.to_dict(exclude_none=True) for item in output]
            for item in items:
                if item.get("type") == "function_call":
                    item["arguments"] = sendable(str(item["arguments"]))
            tokens = _tokens(response)
        self._history += items
        stop: Stop = "tools" if calls else "end"
        if response.status == "incomplete":
            stop = "refused" if reason == "content_filter" else "cut"
        usage = Usage()
        if tokens:
            usage = pricing.usage(tokens, self._model, provider="openai", url=self._base_url)
        return Turn(calls, stop, usage)

    def answer(self, answers: list[Answer]) -> None:
        self._history += [
            {"type": "function_call_output", "call_id": a.id, "output": a.text} for a in answers
        ]

    def say(self, text: str) -> None:
        self._history.append({"role": "user", "content": [{"type": "input_text", "text": text}]})


def _piece(event: Any) -> tuple[tuple[str, int], Literal["text", "thinking"], str] | None:
    """The message that a piece of an answer belongs to, its kind and its text; None for another event."""
    match event.type:
        case "response.output_text.delta" | "response.refusal.delta":
            return (event.item_id, 0), "text", text(event.delta)
        case "response.reasoning_summary_text.delta":
            return (event.item_id, event.summary_index), "thinking", text(event.delta)
    return None


def _tokens(response: Response) -> Tokens | None:
    """The tokens of an answer; None when the server does not tell."""
    u = response.usage
    if u is None:
        return None
    return openai_tokens(u.input_tokens, u.input_tokens_details, u.output_tokens, u.output_tokens_details)

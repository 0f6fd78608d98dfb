"""The made-up answers are parsed like real ones, so that the first real answer waits for nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import httpx2
import pytest

from loop.agents.api import warm_up
from loop.agents.api.chat import Chat
from loop.agents.api.claude import _Messages
from loop.agents.api.conversation import Answer, Dialogue, Turn
from loop.agents.api.gpt import _Responses
from loop.agents.transcript import Transcript


def conversation(api: str, http: httpx2.AsyncClient) -> Dialogue:
    if api == "claude":
        from anthropic import AsyncAnthropic

        client = AsyncAnthropic(api_key="none", base_url="http://127.0.0.1", http_client=http)
        return _Messages(client, "m", warm_up.START, set())
    from openai import AsyncOpenAI

    openai = AsyncOpenAI(api_key="none", base_url="http://127.0.0.1", http_client=http)
    if api == "chat":
        return Chat(openai, "m", warm_up.START, "", "", set())
    return _Responses(openai, "m", warm_up.START, "", "", set())


class Watched:
    """A conversation that keeps the turns it took."""

    def __init__(self, inner: Dialogue) -> None:
        self._inner = inner
        self.turns: list[Turn] = []

    async def turn(self, transcript: Transcript) -> Turn:
        self.turns.append(await self._inner.turn(transcript))
        return self.turns[-1]

    def answer(self, answers: list[Answer]) -> None:
        self._inner.answer(answers)

    def say(self, text: str) -> None:
        self._inner.say(text)


EVENTS: dict[str, list[dict[str, Any]]] = {
    "claude": warm_up.MESSAGES,
    "responses": warm_up.RESPONSES,
    "chat": warm_up.CHAT,
}


@pytest.mark.parametrize("api", EVENTS)
async def test_a_made_up_answer_is_a_whole_turn_with_a_call_and_a_usage(api: str) -> None:
    made: list[Watched] = []

    def begin(http: httpx2.AsyncClient) -> Dialogue:
        made.append(Watched(conversation(api, http)))
        return made[0]

    await asyncio.to_thread(warm_up.build_parsers, EVENTS[api], begin)
    (turn,) = made[0].turns
    assert [(call.name, call.arguments) for call in turn.calls] == [("view", "{}")]
    assert turn.stop == "tools"
    assert (turn.usage.input_tokens, turn.usage.output_tokens) == (1, 1)


async def test_an_answer_that_cannot_be_parsed_is_ignored() -> None:
    def begin(http: httpx2.AsyncClient) -> Dialogue:
        return conversation("chat", http)

    await asyncio.to_thread(warm_up.build_parsers, [{"choices": 5}], begin)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_prices_are_loaded_with_the_library(api: str) -> None:
    code = (
        "import sys; from loop.agents.api.gpt import GptAgent;"
        f"GptAgent('k', 'm', api={api!r})._connect(); print('genai_prices' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "True"

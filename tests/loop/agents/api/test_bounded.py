"""An answer that never ends, or that unfolds, is a fault of its provider and not the engine's end."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from loop.agents.api import bounded
from loop.agents.api.claude import ClaudeAgent
from loop.agents.api.conversation import Dialogue
from loop.agents.api.gpt import GptAgent
from loop.agents.api.warm_up import START
from loop.agents.provider_errors import _causes, explain
from loop.agents.transcript import Transcript
from tests.loop.agents.api.mock import APIS, MODELS, agent

THE_QUICK_FIRST = [pytest.param(api, marks=[] if api == "chat" else pytest.mark.slow, id=api) for api in APIS]
"""The parsers of the other two take seconds to build."""


@contextlib.asynccontextmanager
async def server(head: str, body: bytes, times: int, status: str = "200 X") -> AsyncIterator[str]:
    """The address of a server that answers everything with this, so many times over."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {status}\r\nconnection: close\r\n{head}\r\n\r\n".encode())
            for _ in range(times):
                writer.write(body)
                await writer.drain()
        writer.close()

    served = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with served:
        yield f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}/v1"


async def fault(api: str, url: str) -> str:
    """What the conversation makes of the first answer of the server at `url`."""
    from loop.agents.api.chat import Chat
    from loop.agents.api.claude import _Messages
    from loop.agents.api.gpt import _Responses

    asked = agent(api, url)
    assert isinstance(asked, ClaudeAgent | GptAgent)
    client: Any = await asyncio.to_thread(asked._connect)
    model = MODELS[api]
    dialogue: Dialogue
    if api == "claude":
        dialogue = _Messages(client, model, START, set())
    elif api == "chat":
        dialogue = Chat(client, model, START, url, "it", set())
    else:
        dialogue = _Responses(client, model, START, url, "t", set())
    try:
        await dialogue.turn(Transcript(1, lambda event: None))
    except Exception as error:
        said = " from ".join(str(cause) for cause in _causes(error))
        return f"{explain(error, 'it', model).kind}: {said}"
    finally:
        await client.close()
    return "understood"


@pytest.mark.parametrize("api", THE_QUICK_FIRST)
async def test_a_line_that_never_ends_is_given_up(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "ANSWER_MOST", 2**20)
    async with server("content-type: text/event-stream", b"x" * 2**16, 1000) as url:
        found = await fault(api, url)
        assert found.startswith("retry")
        assert "longer than 1 MB" in found


@pytest.mark.parametrize("api", THE_QUICK_FIRST)
async def test_a_packed_answer_is_not_unfolded(api: str) -> None:
    packed = gzip.compress(bytes(2**24))
    async with server("content-type: text/event-stream\r\ncontent-encoding: gzip", packed, 1) as url:
        assert "packed" in await fault(api, url)


@pytest.mark.parametrize("status", ["302 X", "307 X", "308 X"])
async def test_nothing_follows_where_an_answer_leads(status: str) -> None:
    """Neither the key nor the code goes to an address that nobody has chosen."""
    asked = list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    elsewhere = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with elsewhere:
        url = f"http://localhost:{elsewhere.sockets[0].getsockname()[1]}/stolen"
        async with server(f"location: {url}", b"", 0, status) as front:
            assert (await fault("chat", front)).startswith("stop")
    assert asked == []

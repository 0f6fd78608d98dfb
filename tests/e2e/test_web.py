"""`serve`: the cockpit over a web socket, for its own page only."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest


def origin(address: str) -> str:
    return address.rsplit("/", 2)[0]


@contextlib.asynccontextmanager
async def page(address: str, **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """The socket that the page opens, once the server listens."""
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            with contextlib.suppress(aiohttp.ClientConnectorError):
                async with session.ws_connect(f"{address}ws?width=120&height=40", headers=headers) as web:
                    yield web
                    return
            await asyncio.sleep(0.05)
        pytest.fail("the server never listened")


async def read_until(web: aiohttp.ClientWebSocketResponse, words: bytes) -> None:
    seen = b""
    async with asyncio.timeout(60):
        async for message in web:
            seen += message.data if message.type is aiohttp.WSMsgType.BINARY else b""
            if words in seen:
                return
    pytest.fail(f"{words!r} not in {seen[-500:]!r}")


async def test_the_browser_shows_the_cockpit_and_its_keys_work(address: str) -> None:
    async with page(address, Origin=origin(address)) as web:
        await read_until(web, b"results.tsv")
        await web.send_str(json.dumps(["stdin", "?"]))
        await read_until(web, b"Past experiments")


async def test_nothing_stays_when_the_server_is_killed(address: str, servers: list[psutil.Process]) -> None:
    async with page(address, Origin=origin(address)) as web:
        await read_until(web, b"results.tsv")
        (shown,) = servers[0].children()
        servers[0].kill()
    await asyncio.to_thread(shown.wait, 30)


async def test_who_does_not_know_the_address_and_other_pages_are_refused(address: str) -> None:
    async with page(address, Origin=origin(address)):
        pass
    at, port = origin(address), address.split(":")[2].split("/")[0]
    for place, headers in (
        (address, {"Origin": "http://evil.example"}),
        (address, {"Host": f"evil.example:{port}"}),
        (f"{at}/", {}),
        (f"{at}/{'x' * 32}/", {}),
        (f"{address[:-2]}/", {}),
    ):
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{place}ws", headers=headers)
            assert refused.value.status == 403
            async with session.get(place, headers=headers) as answer:
                assert answer.status == 403

"""`serve`: the cockpit over a web socket, for its own page only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

ROOT = Path(__file__).parents[2]


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "loop.cli", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def servers() -> list[psutil.Process]:
    """The processes that serve a page."""
    return []


@pytest.fixture
async def port(
    repository: Path, monkeypatch: pytest.MonkeyPatch, servers: list[psutil.Process]
) -> AsyncIterator[int]:
    """A running engine whose cockpit is served on this port."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    flags = ("--tag", "t", "--agent", "search", "--budget", "2")
    engine = start(repository, "run", *flags)
    while not (repository / ".autoresearch/t/engine.json").exists():
        assert engine.poll() is None
        await asyncio.sleep(0.05)
    server = start(repository, "serve", "--tag", "t", "--port", str(number))
    servers.append(psutil.Process(server.pid))
    yield number
    for process in (server, engine):
        process.send_signal(signal.SIGTERM)
    for process in (server, engine):
        process.wait(30)


@contextlib.asynccontextmanager
async def page(port: int, **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """The socket that the page opens, once the server listens."""
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            with contextlib.suppress(aiohttp.ClientConnectorError):
                async with session.ws_connect(
                    f"http://127.0.0.1:{port}/ws?width=120&height=40", headers=headers
                ) as web:
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


async def test_the_browser_shows_the_cockpit_and_its_keys_work(port: int) -> None:
    async with page(port, Origin=f"http://127.0.0.1:{port}") as web:
        await read_until(web, b"results.tsv")
        await web.send_str(json.dumps(["stdin", "?"]))
        await read_until(web, b"Past experiments")


async def test_nothing_stays_when_the_server_is_killed(port: int, servers: list[psutil.Process]) -> None:
    async with page(port, Origin=f"http://127.0.0.1:{port}") as web:
        await read_until(web, b"results.tsv")
        (shown,) = servers[0].children()
        servers[0].kill()
    await asyncio.to_thread(shown.wait, 30)


async def test_other_pages_and_other_names_are_refused(port: int) -> None:
    async with page(port, Origin=f"http://127.0.0.1:{port}"):
        pass
    for headers in ({"Origin": "http://evil.example"}, {"Host": f"evil.example:{port}"}):
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"http://127.0.0.1:{port}/ws", headers=headers)
            assert refused.value.status == 403
            async with session.get(f"http://127.0.0.1:{port}/", headers=headers) as answer:
                assert answer.status == 403

"""The guard of the page: who may talk to the cockpit in a browser."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tui.web import Guarded

TOKEN = "a-long-secret"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/{TOKEN}/", {}, 200),
        (f"/{TOKEN}/", {"Origin": "http://{host}"}, 200),
        (f"/{TOKEN}/", {"Origin": "http://evil.example"}, 403),
        (f"/{TOKEN}/", {"Origin": "null"}, 403),
        (f"/{TOKEN}/", {"Origin": "http://[", "Host": "127.0.0.1"}, 403),
        (f"/{TOKEN}/", {"Host": "evil.example"}, 403),
        (f"/{TOKEN}/", {"Host": "[::1"}, 403),
        (f"/{TOKEN}/", {"Host": "127.0.0.1@evil.example"}, 403),
        (f"/{TOKEN}/", {"Host": "127.0.0.1.evil.example"}, 403),
        (f"/{TOKEN}/ws", {"Origin": "http://evil.example"}, 403),
        (f"/{TOKEN.upper()}/", {}, 403),
        (f"/x/%2e%2e/{TOKEN}é/", {}, 403),
        ("/", {}, 403),
        ("/ws", {}, 403),
        ("/wrong/", {}, 403),
        (f"/{TOKEN[:-1]}/ws", {}, 403),
        (f"/wrong/../{TOKEN}x/", {}, 403),
        ("/static/js/textual.js", {}, 403),
        (f"/{TOKEN}/static/js/textual.js", {}, 200),
    ],
)
async def test_only_its_own_page_is_answered(path: str, headers: dict[str, str], status: int) -> None:
    server = TestServer(await Guarded("true", token=TOKEN, host="127.0.0.1", port=0)._make_app())
    async with TestClient(server) as client:
        host = f"127.0.0.1:{server.port}"
        sent = {name: value.format(host=host) for name, value in headers.items()}
        async with client.get(path, headers=sent) as answer:
            assert answer.status == status
            if path == f"/{TOKEN}/" and status == 200:
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                policy = answer.headers["Content-Security-Policy"].split("; ")
                assert policy[-1] == f"connect-src 'self' ws://{host} wss://{host}"
                assert f'"ws://{host}/{TOKEN}/ws"' in await answer.text()


@pytest.mark.parametrize("line", ["OPTIONS *", "GET http://x", "GET http://x/", f"GET http://x/{TOKEN}/"])
async def test_a_request_without_a_path_is_refused_like_any_other(line: str) -> None:
    server = TestServer(await Guarded("true", token=TOKEN, host="127.0.0.1", port=0)._make_app())
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"{line} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.readline()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 403")

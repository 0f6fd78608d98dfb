"""The guard of the page: who may talk to the cockpit in a browser."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tui.web import Guarded


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://{host}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
async def test_only_its_own_page_is_answered(headers: dict[str, str], status: int) -> None:
    server = TestServer(await Guarded("true", host="127.0.0.1", port=0)._make_app())
    async with TestClient(server) as client:
        host = f"127.0.0.1:{server.port}"
        sent = {name: value.format(host=host) for name, value in headers.items()}
        async with client.get("/", headers=sent) as answer:
            assert answer.status == status

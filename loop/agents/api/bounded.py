"""Bounds what a provider's answer may take, and where it may lead, whatever a provider or a proxy sends.

The libraries of the providers read an answer to its end, and a line of it too: one that never ends would fill
the engine's memory. A few packed bytes can unfold to as much, so answers are asked for, and taken, unpacked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2

ANSWER_MOST = 64 * 2**20
"""Bytes of one answer. A hundred thousand tokens, each in an event of its own, have half as many."""
UNPACKED = {"Accept-Encoding": "identity"}
"""Headers of every request."""


class _Bounded(httpx2.AsyncByteStream):
    """A stream that fails where it grows longer than an answer may be."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream, self._left = stream, ANSWER_MOST

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._left -= len(piece)
            if self._left < 0:
                raise httpx2.RemoteProtocolError(f"the answer is longer than {ANSWER_MOST / 2**20:g} MB")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


async def bound(response: httpx2.Response) -> None:
    """Bound an answer whose body has not been read yet: an event hook of an HTTP client.

    Raises `httpx2.RemoteProtocolError` when it is packed.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx2.RemoteProtocolError("the answer is packed, which was not asked for")
    assert isinstance(response.stream, httpx2.AsyncByteStream), "an asynchronous client got it"
    response.stream = _Bounded(response.stream)


CLIENT: dict[str, Any] = {"event_hooks": {"response": [bound]}, "follow_redirects": False}
"""Settings of each HTTP client. An answer that leads elsewhere is a fault: the code, the transcript and, on
some ways, the key would go to an address that nobody has chosen."""

"""The `serve` command: the cockpit in a browser, through textual-serve, which is an optional dependency."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

LOCAL = ("127.0.0.1", "localhost", "::1")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guarded(Server):
    """textual-serve that answers its own page only.

    Any page in a browser may open a socket to 127.0.0.1; if it were answered, it could press our keys.
    """

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = urlsplit(f"//{request.host}").hostname
        if self.host in LOCAL and name not in LOCAL:
            raise web.HTTPForbidden(text=f"this server is for {' and '.join(LOCAL)}, not for {name}")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text="another page must not drive this one")
        return await handler(request)

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """Answer with the page, naming the address that the browser asked: a tunnel may change the port."""
        self.public_url = f"{request.scheme}://{request.host}"
        return await super().handle_index(request)


def serve(tag: str, host: str, port: int) -> int:
    """Serve until interrupted. There is no password: whoever reaches the address commands the engine."""
    if host not in LOCAL:
        print(
            f"autoresearch-tui: anyone who reaches {host}:{port} can command this run; "
            "an SSH tunnel to 127.0.0.1 is safer",
            file=sys.stderr,
        )
    words = [sys.executable, "-P", "-m", "loop.cli", "attach", "--tag", tag]
    server = Guarded(f"exec {shlex.join(words)}", host=host, port=port, title=f"autoresearch/{tag}")
    print(f"autoresearch/{tag} at http://{host}:{port}, ctrl+c ends it", flush=True)
    server.serve()
    return 0

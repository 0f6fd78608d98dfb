"""The `serve` command: the cockpit in a browser, through textual-serve, which is an optional dependency."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import SplitResult, urlsplit

from aiohttp import web
from textual_serve.server import Server

LOCAL = ("127.0.0.1", "localhost", "::1")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""The page's address is a secret: no other page is told it, or may show this one."""
POLICY = "default-src 'self' 'unsafe-inline' data:; connect-src 'self' ws://{host} wss://{host}"
"""Nothing is fetched from elsewhere, where textual-serve's page asks Google for a font, and nothing is sent
there: the page's socket leads to the host that it came from. Not every browser takes 'self' to cover that."""


class Guarded(Server):
    """textual-serve that answers its own page only, and that only at an address with a secret in it.

    Any user of this machine can reach 127.0.0.1, and any page in a browser may open a socket to it; if they
    were answered, they could press our keys.
    """

    def __init__(self, command: str, *, token: str, host: str, port: int, title: str = "") -> None:
        super().__init__(command, host=host, port=port, title=title)
        self._token = token

    async def _make_app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.add_subapp(f"/{self._token}", await super()._make_app())
        return app

    async def _refuse(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPForbidden(text="open the whole address that `autoresearch-tui serve` has printed")

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        secret = request.path.removeprefix("/").partition("/")[0]  # `OPTIONS *` has no slash at all
        if not secrets.compare_digest(secret.encode(), self._token.encode()):  # the time tells nothing of it
            return await self._refuse(request)
        if self.host in LOCAL and _parts(f"//{request.host}").hostname not in LOCAL:
            raise web.HTTPForbidden(text=f"this server is for {' and '.join(LOCAL)} only")
        origin = request.headers.get("Origin")
        if origin is not None and _parts(origin).netloc != request.host:
            raise web.HTTPForbidden(text="another page must not drive this one")
        return await handler(request)

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """Answer with the page, naming the address that the browser asked: a tunnel may change the port."""
        self.public_url = f"{request.scheme}://{request.host}"
        answer = await super().handle_index(request)
        answer.headers.update(HEADERS)
        answer.headers["Content-Security-Policy"] = POLICY.format(host=request.host)
        return answer


def _parts(address: str) -> SplitResult:
    """The parts of an address; none where it is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return SplitResult("", "", "", "", "")


def serve(tag: str, host: str, port: int) -> int:
    """Serve until interrupted. Whoever knows the address that this prints commands the engine."""
    if host not in LOCAL:
        print(
            f"autoresearch-tui: what goes to {host}:{port} can be read on its way, the secret in its address "
            "too; an SSH tunnel to 127.0.0.1 is safer",
            file=sys.stderr,
        )
    words = [sys.executable, "-P", "-m", "loop.cli", "attach", "--tag", tag]
    token = secrets.token_urlsafe(24)
    title = f"autoresearch/{tag}"
    server = Guarded(f"exec {shlex.join(words)}", token=token, host=host, port=port, title=title)
    print(f"autoresearch/{tag} at http://{host}:{port}/{token}/, ctrl+c ends it", flush=True)
    server.serve()
    return 0

"""A model server on this machine that speaks as four vendors do, and plays scenarios.

A scenario is the name of what researcher.py does, `hang` (no answer ever comes), or an HTTP status; with
`x` and a number after it only so many requests fail, and after `until` none from that moment on.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.real_agents import formats
from tests.real_agents.researcher import Reply, Seen, reply

ERRORS = {
    401: ("authentication_error", "invalid x-api-key: sk-fake-SECRET-0001", "UNAUTHENTICATED"),
    429: ("rate_limit_error", "This request would exceed your rate limit", "RESOURCE_EXHAUSTED"),
    500: ("api_error", "Internal server error", "INTERNAL"),
    503: ("overloaded_error", "The service is unavailable", "UNAVAILABLE"),
}
THINKS_S = 0.2
"""How long the model thinks. A real one takes seconds, in which an agent can be interrupted."""
Format = tuple[Callable[[Any], Seen], Callable[[Reply, Any], Iterator[formats.Event]]]
FORMATS: dict[str, Format] = {
    "/messages": (formats.seen_by_anthropic, formats.anthropic),
    "/responses": (formats.seen_by_responses, formats.responses),
    "/chat/completions": (formats.seen_by_chat, formats.chat),
    "enerateContent": (formats.seen_by_gemini, formats.gemini),
}


class Vendor:
    """The server. It lives until `close`."""

    def __init__(self, scenario: str = "edit") -> None:
        self.play(scenario)
        self.requests = 0
        """How many requests to a model have come."""
        self.heard = ""
        """All requests to a model."""
        vendor = self

        class Handler(_Handler):
            server_of = vendor

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def play(self, scenario: str) -> None:
        """Play this scenario from now on."""
        self._scenario, _, times = scenario.partition("x") if scenario[:3].isdigit() else (scenario, "", "")
        self._left = int(times) if times else None
        self._until: float | None = None

    def be_down(self, seconds: float) -> None:
        """Refuse everything with 503 for so long."""
        self._until = time.monotonic() + seconds

    def status(self) -> int | None:
        """The HTTP status that the next request is refused with; None: none."""
        if self._until is not None and time.monotonic() < self._until:
            return 503
        if not self._scenario.isdigit() or self._left == 0:
            return None
        if self._left is not None:
            self._left -= 1
        return int(self._scenario)

    @property
    def scenario(self) -> str:
        return "edit" if self._scenario.isdigit() else self._scenario

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: Vendor

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(200, {})

    def do_GET(self) -> None:
        there = "/models" in self.path  # Codex also asks for a web socket
        self._answer(200 if there else 404, {"object": "list", "data": [], "models": []})

    def do_POST(self) -> None:
        body = json.loads(self._body() or b"{}")
        path = self.path.partition("?")[0]
        found = next((form for part, form in FORMATS.items() if part in path and "ount" not in path), None)
        if found is None:  # counting tokens, telemetry
            self._answer(200, {"input_tokens": 1000, "totalTokens": 1000})
            return
        self.server_of.requests += 1
        self.server_of.heard += json.dumps(body)
        if code := self.server_of.status():
            self._refuse(code, "enerateContent" in path)
        elif self.server_of.scenario == "hang":
            time.sleep(600)
        else:
            time.sleep(THINKS_S)
            see, speak = found
            self._speak(reply(self.server_of.scenario, see(body)), speak, body, path)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        whole = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def _refuse(self, code: int, is_gemini: bool) -> None:
        kind, words, status = ERRORS[code]
        error: dict[str, Any] = {"code": code, "message": words, "status": status}
        if not is_gemini:
            error = {"type": kind, "message": words}
        self._answer(code, {"type": "error", "error": error})

    def _answer(self, code: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _speak(self, said: Reply, speak: Any, body: Any, path: str) -> None:
        if "chat/completions" in path and not body.get("stream"):
            self._answer(200, formats.chat_whole(said, body))
            return
        if path.endswith(":generateContent"):
            self._answer(200, next(speak(said, body))[1])
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for number, (name, data) in enumerate(speak(said, body)):
            if name:
                data = {"type": name, "sequence_number": number, **data}
            line = f"event: {name}\n" if name else ""
            self.wfile.write(f"{line}data: {json.dumps(data)}\n\n".encode())
        if "chat/completions" in path:
            self.wfile.write(b"data: [DONE]\n\n")

"""A real `llmock` server process, what a test tells it to say, and agents that talk to it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from typing import Any

from loop.agents.api.claude import ClaudeAgent
from loop.agents.api.gpt import GptAgent
from loop.agents.base import Agent, Bounds

KEY = "sk-sentinel-2f9c1d77e5"
"""The key of every agent under test: it must be found nowhere afterwards."""
APIS = ("claude", "responses", "chat")
MODELS = {"claude": "claude-opus-5-5", "responses": "gpt-6.1-sol", "chat": "gpt-6.1-sol"}
QUICK = Bounds(turns=12, seconds=30.0, wait_base_s=0.02, first_tries=3)


class Mock:
    """The server, and its control API."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "llmock.cli", "serve", "--port", str(self.port), "--tool-mode", "off",
             "--log-level", "warning"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                self._ask("GET", "/health")
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()  # asked nicely, it waits for streams it was told to stall
        self._process.wait(10)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def script(self, *behaviours: dict[str, Any]) -> None:
        """What upcoming requests meet, in order."""
        self._ask("POST", "/_llmock/scenario", {"behaviors": list(behaviours)})

    def reset(self) -> None:
        self._ask("POST", "/_llmock/reset")

    def pending(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "/_llmock/scenario")["pending"]
        return found

    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "/_llmock/requests")["requests"]
        return found

    def findings(self) -> list[str]:
        """What llmock holds against a client: a Retry-After ignored, half a stream believed, ..."""
        return [finding["code"] for finding in self._ask("GET", "/_llmock/verdict")["findings"]]

    def url(self, api: str) -> str:
        return f"http://127.0.0.1:{self.port}{'/anthropic' if api == 'claude' else '/v1'}"


def agent(api: str, url: str, bounds: Bounds = QUICK, silence_s: float = 20.0, model: str = "-") -> Agent:
    """An agent that speaks `api` with a server at `url`."""
    model = MODELS[api] if model == "-" else model
    if api == "claude":
        return ClaudeAgent(KEY, model, url, bounds, silence_s)
    return GptAgent(KEY, model, url, "responses" if api == "responses" else "chat", bounds, silence_s)


def say(text: str, *calls: tuple[str, dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
    """One turn: words and tool calls."""
    behaviour: dict[str, Any] = {"type": "reply", "text": text}
    if calls:
        behaviour["tool_calls"] = [{"name": name, "arguments": arguments} for name, arguments in calls]
    if finish:
        behaviour["finish_reason"] = finish
    return behaviour


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """One turn that only calls a tool."""
    return say("", (name, arguments))


def set_x(value: float, before: str = "X = 3.0  # where we stand") -> list[dict[str, Any]]:
    """Two turns: an edit of X and its submission."""
    after = f"X = {value}  # where we stand"
    return [
        say(f"I set X to {value}.", ("str_replace", {"old": before, "new": after})),
        call("submit", description=f"X to {value}", hypothesis="closer to the minimum"),
    ]

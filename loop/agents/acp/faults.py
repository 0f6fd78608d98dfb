"""What an error of a CLI agent means. Pure.

Agents pass on in words of their own what their vendor's server has said, mostly as an "Internal error". So
the meaning is found in the words: the status that they name, and what is typical of each trouble.
"""

from __future__ import annotations

import re
from typing import Any

from loop.agents import provider_errors
from loop.agents.base import AgentFailed, AgentStopped
from loop.agents.provider_errors import Fault
from loop.text import redact

AUTH_REQUIRED = -32000
"""Code of the protocol's own error for an agent that has to log in."""
_KEY = re.compile(
    r"(invalid|incorrect|bad|wrong|expired)\b.{0,24}(api.?key|token|credential)"
    r"|api.?key.{0,40}(not valid|invalid)"
    r"|unauthori[sz]ed|unauthenticated|authentication|log ?in\b|logged.?(in|out)",
    re.I,
)
_DOWN = re.compile(
    r"unable to connect|connection ?(error|refused|reset)|cannot connect|fetch failed|network error|ECONN\w+"
    r"|ENOTFOUND|EAI_AGAIN|socket hang up",
    re.I,
)
_BUSY = re.compile(
    r"overloaded|rate.?limit|high demand|too many requests|temporar|unavailable|internal server error"
    r"|usage limit|stream (disconnected|closed|error)|timed? ?out|try again",
    re.I,
)
_STATUS = re.compile(r"\b(4\d\d|5\d\d)\b")
_WRAPPED = re.compile(r'"message"\s*:\s*"((?:[^"\\]|\\.)*)"')


def of_request(error: Any, name: str, model: str, secrets: tuple[str, ...] = ()) -> Ending:
    """The meaning of an error that the agent has answered a request with (`acp.RequestError`)."""
    data = error.data if isinstance(error.data, dict) else {}
    words = " ".join(str(word) for word in (error, data.get("details"), data.get("errorKind")) if word)
    if error.code == AUTH_REQUIRED:
        return Ending("stop", _login(name, redact(words, secrets)))
    status = error.code if 400 <= error.code < 600 else None
    return of_words(words, name, model, secrets, status)


def of_words(
    words: str, name: str, model: str, secrets: tuple[str, ...] = (), status: int | None = None
) -> Ending:
    """The meaning of what an agent has said about a failed turn."""
    if wrapped := _WRAPPED.search(words):
        words = wrapped[1]
    said = redact(words.removeprefix("Internal error: ").removeprefix("API Error: "), secrets)
    named = status or next((int(code) for code in _STATUS.findall(words)), None)
    if named == 401 or _KEY.search(words):
        return Ending("stop", _login(name, said))
    if _DOWN.search(words):
        return Ending("unreachable", f"{name} cannot reach its server ({said})")
    if found := provider_errors.meaning(named, words, said, name, model or "of its own choice"):
        return Ending(found.kind, str(found))
    return Ending("retry" if _BUSY.search(words) else "fail", f"{name}: {said}")


def _login(name: str, said: str) -> str:
    return (
        f"{name} is not logged in, or its key is refused ({said}): start it once by hand and log in, or "
        "start the engine again with a valid key"
    )


class Ending(Fault):
    """A fault that has ended a turn of a CLI agent."""

    def as_end(self) -> AgentFailed | AgentStopped:
        """The error that ends the attempt; it is for a human where `kind` is `stop`."""
        return AgentStopped(str(self)) if self.kind == "stop" else AgentFailed(str(self))

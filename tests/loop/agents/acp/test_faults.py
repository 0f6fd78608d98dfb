"""What agents say of a failed turn, and what it means. The words are what the real programs have said."""

from __future__ import annotations

from typing import Any

import acp
import pytest

from loop.agents.acp import faults
from loop.agents.base import AgentFailed, AgentStopped


@pytest.mark.parametrize(
    ("code", "message", "data", "kind"),
    [
        (-32000, "Authentication required", None, "stop"),
        (401, '{"error":{"code":401,"message":"invalid x-api-key: sk-1","status":"X"}}', None, "stop"),
        (-32603, "Internal error: invalid x-api-key: sk-1", {"errorName": "APIError"}, "stop"),
        (-32603, "Internal error", {"details": "401 invalid x-api-key"}, "stop"),
        (-32603, "Internal error: API Error: 500 Internal server error. This is a server-side issue, usually "
                 "temporary", {"errorKind": "server_error"}, "retry"),
        (500, '{"error":{"code":500,"message":"Internal","status":"INTERNAL"}}', None, "retry"),
        (-32603, "Internal error: Internal server error", {"errorName": "APIError"}, "retry"),
        (-32603, "Internal error", {"details": "429 This request would exceed your rate limit"}, "retry"),
        (-32603, "Internal error", {"details": "Connection error."}, "unreachable"),
        (-32603, "Internal error: API Error: Unable to connect to API (ECONNREFUSED)", None, "unreachable"),
        (-32603, "Internal error", {"details": "model no-such-model not found"}, "stop"),
        (-32603, "Internal error: Your credit balance is too low", None, "stop"),
        (-32602, "Invalid params", None, "fail"),
    ],
)  # fmt: skip
def test_an_error_of_the_protocol_has_a_meaning(code: int, message: str, data: Any, kind: str) -> None:
    ending = faults.of_request(acp.RequestError(code, message, data), "agent", "m")
    assert ending.kind == kind
    assert isinstance(ending.as_end(), AgentStopped if kind == "stop" else AgentFailed)
    assert "\n" not in str(ending)


@pytest.mark.parametrize(
    "words",
    [
        "We’re currently experiencing high demand, which may cause temporary errors.",
        "exceeded retry limit, last status: 429 Too Many Requests",
        "stream disconnected before completion",
    ],
)
def test_what_codex_says_in_passing_is_waited_for(words: str) -> None:
    assert faults.of_words(words, "codex", "m").kind == "retry"


def test_no_key_is_in_the_sentence() -> None:
    ending = faults.of_words("401 invalid key hunter22 sk-fake-SECRET-0001", "agent", "m", ("hunter22",))
    assert "hunter22" not in str(ending)
    assert "SECRET" not in str(ending)

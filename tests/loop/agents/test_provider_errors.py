"""What errors mean, and how long is waited."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from loop.agents import provider_errors

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1")


def status(code: int, body: Any, headers: dict[str, str] | None = None) -> Exception:
    answer = httpx2.Response(code, request=REQUEST, headers=headers)
    return openai.APIStatusError("said so", response=answer, body=body)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (status(401, {"message": "no"}), "stop"),
        (status(402, {}), "stop"),
        (status(403, {}), "stop"),
        (status(404, {"code": "model_not_found"}), "stop"),
        (status(400, {"error": {"message": "Your credit balance is too low"}}), "stop"),
        (status(429, {"code": "insufficient_quota", "message": "quota"}), "stop"),
        (status(400, {"message": "The model `x` does not exist"}), "stop"),
        (status(400, {"message": "Invalid model name passed in model=x"}), "stop"),
        (status(400, {"code": "context_length_exceeded"}), "long"),
        (status(400, {"error": {"message": "exceeds the available context size, try"}}), "long"),
        (status(413, {"type": "request_too_large"}), "long"),
        (status(400, {"message": "no such field"}), "fail"),
        (status(422, {}), "fail"),
        *[(status(code, {}), "retry") for code in (408, 409, 429, 500, 502, 503, 529)],
        (status(200, {"error": {"type": "overloaded_error", "message": "Overloaded"}}), "retry"),
        (openai.APIError("later", REQUEST, body={"code": "rate_limit_exceeded"}), "retry"),
        (httpx2.RemoteProtocolError("peer closed"), "retry"),
        (httpx2.ReadTimeout("slow"), "retry"),
        (httpx2.ConnectError("refused"), "unreachable"),
        (openai.APITimeoutError(REQUEST), "retry"),
        (anthropic.APIConnectionError(request=REQUEST), "retry"),
        (ValueError("Expecting value"), "garbled"),
        (RuntimeError("Didn't receive a `response.completed` event."), "retry"),
    ],
)
def test_every_error_has_a_meaning_and_one_sentence(error: Exception, kind: str) -> None:
    fault = provider_errors.explain(error, "Peer", "model-1")
    assert fault.kind == kind
    assert str(fault)
    assert "\n" not in str(fault)


def test_a_bug_of_ours_is_not_taken_for_a_fault() -> None:
    with pytest.raises(TypeError):
        provider_errors.explain(TypeError("ours"), "Peer", "model-1")


def test_retry_after_in_all_its_forms() -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert provider_errors.retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25
    assert provider_errors.retry_after({"retry-after": "7"}) == 7.0
    assert 25 < (provider_errors.retry_after({"retry-after": later}) or 0) <= 30
    assert provider_errors.retry_after({"retry-after": "soon"}) is None
    assert provider_errors.retry_after({}) is None
    assert provider_errors.explain(status(429, {}, {"retry-after": "3"}), "P", "m").retry_after_s == 3.0


def test_waits_grow_and_are_bounded_and_keep_what_the_server_asked() -> None:
    waits = [provider_errors.wait_s(tries, None) for tries in range(1, 40)]
    assert waits[:6] == sorted(waits[:6])
    assert max(waits) <= provider_errors.WAIT_MOST_S
    assert all(5.0 <= provider_errors.wait_s(tries, 5.0) < 6.0 for tries in range(1, 40))
    assert len({provider_errors.wait_s(3, None) for _ in range(10)}) > 1


def test_a_sentence_holds_no_key() -> None:
    error = status(401, {"error": {"message": "Incorrect API key: hunter22 or sk-ab***yz"}})
    fault = provider_errors.explain(error, "Peer", "model-1", ("hunter22",))
    assert str(fault) == (
        "Peer refuses the key (Incorrect API key: [key] or [key]): start the engine again with a valid one"
    )


def test_a_fault_stays_as_it_is() -> None:
    fault = provider_errors.Fault("long", "too much")
    assert provider_errors.explain(fault, "Peer", "model-1") is fault

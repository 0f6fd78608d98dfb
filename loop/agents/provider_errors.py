"""Decides what an error of a provider's library means for the conversation, and how long to wait. Pure.

While they stream, both libraries let errors of other libraries through (of `httpx2`, or about broken JSON).
So `explain` takes any error. It looks at what an error carries, such as its status, and not at its class: no
provider's library has to be imported.
"""

from __future__ import annotations

import email.utils
import random
import re
import time
from typing import Any, Literal

from loop.text import redact

Kind = Literal["retry", "unreachable", "garbled", "long", "fail", "stop"]
"""What to do about a failed turn.

- `retry`: ask again after a wait.
- `unreachable`: the same; nobody answered at all.
- `garbled`: the same; the answer could not be read.
- `long`: begin again with a shorter prompt, because the model has no room for this conversation.
- `fail`: give this attempt up.
- `stop`: pause until a human has acted.
"""

WAIT_BASE_S = 1.0
"""About how long to wait before the second try."""
WAIT_MOST_S = 120.0
"""The longest wait, unless the server asks for a longer one."""

# What errors of these libraries say is a provider's matter, whatever their class.
_LIBRARIES = ("anthropic", "openai", "httpx2", "httpcore2", "httpx", "httpcore")
_NO_CREDIT = re.compile(r"insufficient_quota|billing|credit balance|spend.?limit|payment|out of credit", re.I)
_NO_MODEL = re.compile(
    r"model_not_found|model.{0,80}(not found|does not exist|not exist)|no such model|invalid model name", re.I
)
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|prompt is too long|too many tokens|request_too_large", re.I
)
_TRANSIENT = re.compile(r"overloaded|rate.?limit|api_error|server_error|timeout|unavailable|try again", re.I)


class Fault(Exception):
    """A turn that failed: what to do about it, why in one sentence, and how long the server asks to wait."""

    def __init__(self, kind: Kind, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.retry_after_s = kind, retry_after_s


def explain(error: Exception, who: str, model: str, secrets: tuple[str, ...] = ()) -> Fault:
    """The fault that an error of provider `who` means. Its sentence holds none of `secrets`.

    An error that no provider's library is known to raise is a bug of ours: it is raised again.
    """
    if isinstance(error, Fault):
        return error
    library = type(error).__module__.split(".")[0]
    if library not in _LIBRARIES and not isinstance(error, ValueError | RuntimeError | OSError):
        raise error
    status: int | None = getattr(error, "status_code", None)
    said = redact(_words(error), secrets)
    code = f"{_code(error)} {said}"
    after = retry_after(getattr(getattr(error, "response", None), "headers", None) or {})
    return meaning(status, code, said, who, model, after) or _without_status(error, who, said)


def meaning(
    status: int | None, code: str, said: str, who: str, model: str, after: float | None = None
) -> Fault | None:
    """The fault that an HTTP status and an error's words mean; None when they do not tell.

    `code` holds the names that the error carries and all it says; `said` is what a human reads of it.
    """
    if status == 402 or _NO_CREDIT.search(code):
        return Fault("stop", f"{who} has no credit left ({said}): add some, then resume")
    if status == 401 or "authentication_error" in code or "invalid_api_key" in code:
        return Fault("stop", f"{who} refuses the key ({said}): start the engine again with a valid one")
    if status == 403:
        return Fault("stop", f"{who} does not allow this ({said}): mend that, then resume")
    if status in range(300, 400):
        words = f"{who} leads to another address ({status}), where nothing is sent"
        return Fault("stop", f"{words}: start the engine again with the right one")
    if status == 404 or _NO_MODEL.search(code):
        return Fault("stop", f"{who} does not know model {model} ({said}): choose another with --model")
    if status in (400, 413, 422) and _TOO_LONG.search(code):
        return Fault("long", f"the conversation is too long for {model} ({said})")
    if (
        status in (408, 409, 429)
        or (status or 0) >= 500
        or (status in (None, 200) and _TRANSIENT.search(code))
    ):
        return Fault("retry", f"{who}: {said}{f' ({status})' if status and status != 200 else ''}", after)
    if status is not None and status != 200:
        return Fault("fail", f"{who} refuses the request ({status}: {said})")
    return None


def _without_status(error: Exception, who: str, said: str) -> Fault:
    """The fault when there was no answer, or an answer that broke off."""
    chain = {type(e).__name__ for e in _causes(error)}
    if chain & {"ConnectError", "ConnectTimeout", "UnsupportedProtocol"}:
        return Fault("unreachable", f"{who} cannot be reached ({said})")
    if any("Timeout" in name for name in chain):
        return Fault("retry", f"{who} fell silent in mid-answer")
    if isinstance(error, ValueError):  # a chunk that is not JSON
        return Fault("garbled", f"{who} sent an answer that cannot be read")
    return Fault("retry", f"the connection to {who} broke off")


def retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait in the headers of its answer; None when it does not ask."""
    milliseconds, given = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        if given is not None and re.fullmatch(r"\s*[\d.]+\s*", given):
            return float(given)
        if given is not None:
            return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except (TypeError, ValueError):
        pass
    return None


def wait_s(tries: int, retry_after_s: float | None, base_s: float = WAIT_BASE_S) -> float:
    """Seconds to wait after `tries` tries.

    That is what the server asked for and a little more; when it did not ask, twice as long after each try. A
    random share keeps several clients from coming back at the same moment.
    """
    if retry_after_s is not None:
        return retry_after_s * random.uniform(1.0, 1.1) + random.uniform(0, base_s / 4)
    return min(WAIT_MOST_S, base_s * 2.0 ** min(tries - 1, 20)) * random.uniform(0.75, 1.0)


def _words(error: Exception) -> str:
    """The server's own message; without one, the error's."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return str(message or getattr(error, "message", None) or error or type(error).__name__)


def _code(error: Exception) -> str:
    """The names that a server and a library give an error, such as `rate_limit_exceeded`."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    found = [inner.get("type"), inner.get("code")] if isinstance(inner, dict) else []
    return " ".join(
        str(word) for word in [*found, getattr(error, "type", ""), getattr(error, "code", "")] if word
    )


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and the errors that led to it."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain

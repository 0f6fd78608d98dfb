"""Reads what a provider's library passes on of an answer. The libraries check little of it: a piece of an
answer may have any type, and some of them fail inside the library.

Only what is done in here counts as the provider's fault. An error anywhere else is a bug of ours, and asking
again would not mend it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from loop.agents.pricing import Tokens
from loop.agents.provider_errors import Fault


@contextmanager
def reading(who: str) -> Iterator[None]:
    """Within it, an error that something of the wrong kind causes is a `Fault` of provider `who`."""
    try:
        yield
    except (AssertionError, AttributeError, LookupError, TypeError) as error:
        raise Fault("retry", f"{who} sent what is no part of an answer") from error


async def next_event(stream: AsyncIterator[Any], who: str) -> Any:
    """The next event of an answer; None after the last one. Raises what the library raises, or `Fault`."""
    with reading(who):
        return await anext(stream, None)


def text(value: object) -> str:
    """A piece of text. Raises `TypeError` when it is something else."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in the place of text")
    return value


def count(value: object) -> int:
    """A number of tokens; 0 where it is missing. Raises `TypeError` when it is something else."""
    if value is None:
        return 0
    if not isinstance(value, int):
        raise TypeError(f"{type(value).__name__} in the place of a number of tokens")
    return value


def openai_tokens(read: object, read_details: Any, written: object, written_details: Any) -> Tokens:
    """What a turn has used, from figures that OpenAI's two interfaces tell by different names."""
    return Tokens(
        input=count(read),
        cached=count(read_details.cached_tokens if read_details else 0),
        output=count(written),
        reasoning=count(written_details.reasoning_tokens if written_details else 0),
    )

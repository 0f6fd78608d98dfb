"""What is read of an answer has its type, or is the provider's fault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from loop.agents.api.reading import count, next_event, reading, text
from loop.agents.provider_errors import Fault


@pytest.mark.parametrize(
    ("read", "value"), [(text, None), (text, 1), (text, ["x"]), (count, "1"), (count, 1.5), (count, {})]
)
def test_what_has_another_type_is_the_providers_fault(
    read: Callable[[object], object], value: object
) -> None:
    with pytest.raises(Fault, match="it sent what is no part of an answer") as raised, reading("it"):
        read(value)
    assert raised.value.kind == "retry"


def test_what_has_its_type_stays_as_it_is() -> None:
    assert (text("x"), count(7), count(None)) == ("x", 7, 0)


async def failing() -> AsyncIterator[int]:
    yield 1
    raise LookupError


async def test_an_error_within_the_library_is_the_providers_fault() -> None:
    events = failing()
    assert await next_event(events, "it") == 1
    with pytest.raises(Fault):
        await next_event(events, "it")
    assert await next_event(events, "it") is None

"""What is left out of a line that is too narrow for all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def leave_out(pieces: Iterable[T], fits: Callable[[list[T]], bool], rank: Callable[[T], int]) -> list[T]:
    """The pieces in their order, without as many as it takes until they fit; one always stays.

    Those with the highest rank go first, and of one rank the last ones.
    """
    chosen = list(pieces)
    while len(chosen) > 1 and not fits(chosen):
        del chosen[max(range(len(chosen)), key=lambda i: (rank(chosen[i]), i))]
    return chosen

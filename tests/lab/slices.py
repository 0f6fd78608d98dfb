"""Counts how much of a buffer a kernel reads: Inductor counts all of it, also where only a slice is read."""

from __future__ import annotations

import math

import numpy as np
import sympy

Read = tuple[sympy.Expr, dict[sympy.Symbol, int]]
"""A place in a buffer, as a sum of variables with factors, and the range of each variable."""


def elements(reads: list[Read], size: int) -> int:
    """How many different elements of a buffer of `size` are read, at most.

    The two variables with the largest factors choose a row of the buffer. They must be the same in all reads,
    as they are where queries, keys and values stand side by side in a row; else all is counted.
    """
    parts = [_by_factor(index, ranges) for index, ranges in reads]
    if any(part is None for part in parts):
        return size
    known = [part for part in parts if part is not None]
    rows = {tuple(part[0][:2]) for part in known}
    if len(rows) != 1 or len(known[0][0]) < 3:
        return size
    outer = known[0][0][:2]
    width, places = outer[-1][0], set[int]()
    for factors, start in known:
        inner = np.array([start])
        for factor, count in factors[2:]:
            inner = (inner[:, None] + factor * np.arange(count)).ravel()
        places.update((inner % width).tolist())
    return min(size, math.prod(count for _, count in outer) * len(places))


def _by_factor(
    index: sympy.Expr, ranges: dict[sympy.Symbol, int]
) -> tuple[list[tuple[int, int]], int] | None:
    """Factor and range of each variable, largest factor first, and the constant; None if it is not linear."""
    plain = index.replace(lambda e: e.func.__name__ == "Identity", lambda e: e.args[0]).expand()
    factors = [(plain.coeff(variable), count) for variable, count in ranges.items()]
    start = plain.subs(dict.fromkeys(ranges, 0))
    rest = plain - start - sum(f * v for (f, _), v in zip(factors, ranges, strict=True))
    if rest != 0 or not start.is_Integer or not all(f.is_Integer for f, _ in factors):
        return None
    return sorted(((int(f), int(count)) for f, count in factors), reverse=True), int(start)

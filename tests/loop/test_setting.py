"""What is known of one setting."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from loop.setting import FINITE, Setting, about


def setting(kind: object, default: object, meta: msgspec.Meta) -> Setting:
    return Setting("name", kind, default, meta)


def test_a_value_is_harmless_where_there_is_no_risk_or_it_is_known_to_be() -> None:
    plain = setting(int, 1, about("a number"))
    risky = setting(int, 1, about("a number", risk="does {}", harmless=lambda value: value < 5))
    assert plain.is_harmless(99)
    assert [risky.is_harmless(value) for value in (1, 4, 5)] == [True, True, False]
    assert not setting(str, "", about("a program", risk="runs {}")).is_harmless("evil")


def test_a_refused_value_is_answered_with_what_is_allowed() -> None:
    ways = setting(Literal["a", "b", "c"], "a", about("a way", flag="--way"))
    assert ways.requirement("x") == "--way 'x' must be a, b or c"
    assert setting(int, 1, about("n", ge=1, le=9)).requirement(10) == "`name` must be 1 to 9"
    assert setting(int, 1, about("n", ge=1, le=FINITE)).requirement(0) == "`name` must be 1 or more"
    large = setting(float, 1.0, about("n", ge=1, le=FINITE))
    assert large.requirement(1e308) == "`name` must be at most 1,000,000,000"
    above = setting(float, 1.0, about("n", flag="--n", unit="seconds", gt=0))
    assert above.requirement(0) == "--n must be more than 0 seconds"


def test_bounds_hold_where_a_struct_is_annotated_with_them() -> None:
    kind = Annotated[int, about("a number", ge=1, le=2)]
    assert msgspec.convert(2, kind) == 2

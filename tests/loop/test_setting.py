"""What is known of a setting."""

from __future__ import annotations

import msgspec

from loop.setting import FINITE, Setting, about


def test_an_error_message_is_made_from_what_is_known() -> None:
    hours = Setting("hours", float, 1.0, about("how long", flag="--hours", unit="hours", gt=0, le=FINITE))
    assert (hours.flag, hours.unit, hours.risk) == ("--hours", "hours", "")
    assert hours.requirement(0.0) == "--hours must be more than 0 hours"
    count = Setting("count", int, 1, about("how many", ge=1, le=9))
    assert count.requirement(10) == "`count` must be 1 to 9"


def test_the_default_and_what_is_marked_harmless_need_no_trust() -> None:
    meta: msgspec.Meta = about("a number", risk="does {}", harmless=lambda value: value < 3)
    setting = Setting("number", int, 7, meta)
    assert [setting.is_harmless(value) for value in (1, 3, 7)] == [True, False, True]

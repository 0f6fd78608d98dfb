"""What the user can choose about verdicts."""

from __future__ import annotations

from loop.config import Settings
from loop.judging.rules import Rules


def test_the_settings_have_the_same_defaults() -> None:
    assert Settings().rules == Rules()

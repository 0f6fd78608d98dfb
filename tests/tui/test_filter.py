"""What a filter matches."""

from __future__ import annotations

import pytest

from loop.state import Experiment
from tui.filter import matches


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", True),
        ("width", True),
        ("wdth", True),
        ("status:keep", True),
        ("status:crash", False),
        ("!status:crash", True),
        ("!width", False),
        ("commit:abc", True),
        ("n:12 width", True),
        ("n:13", False),
    ],
)
def test_filter(query: str, found: bool) -> None:
    e = Experiment(12, "parent", "keep", "abcdef0" + "0" * 33, "WIDTH 128 -> 160")
    assert matches(query, e) is found

"""What is left out of a line that is too narrow."""

from __future__ import annotations

import pytest

from tui.narrow import leave_out

RANKS = {"tag": 1, "best": 2, "cost": 2, "alert": 0}


@pytest.mark.parametrize(
    ("room", "left"),
    [
        (4, ["tag", "best", "cost", "alert"]),
        (3, ["tag", "best", "alert"]),
        (2, ["tag", "alert"]),
        (1, ["alert"]),
        (0, ["alert"]),
    ],
)
def test_the_highest_rank_goes_first_and_of_one_rank_the_last(room: int, left: list[str]) -> None:
    assert leave_out(RANKS, lambda chosen: len(chosen) <= room, RANKS.__getitem__) == left

"""What the user can choose about verdicts."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Rules(Struct, frozen=True):
    """What the user can choose about judging."""

    rule: Literal["improved", "confirmed"] = "confirmed"
    baseline_runs: int = 2
    """Trainings of the baseline before anything is compared with it: they measure the noise."""
    max_runs: int = 3
    """Trainings of one candidate at most, its first included."""
    combine: int = 14
    """Near misses that the engine tries together, at most; 0: never."""
    line_price: float = 0.02
    """What each line that a candidate adds must gain besides, in standard deviations of one training; all
    lines together at most one deviation. A change that removes lines is kept when it loses nothing beyond the
    noise. 0: lines do not count."""

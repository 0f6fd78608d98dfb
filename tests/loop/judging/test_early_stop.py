"""When a training is stopped early: on tables of loss curves."""

from __future__ import annotations

import math

import pytest

from loop.events import CurvePoint
from loop.judging.early_stop import doomed


def curve(until: float, loss: object, points: int = 400) -> list[CurvePoint]:
    """A loss curve up to a share of the budget."""
    assert callable(loss)
    return [CurvePoint(i / points, loss(i / points)) for i in range(int(until * points) + 1)]


def usual(at: float) -> float:
    return 2 + 8 * math.exp(-6 * at) + 0.3 * math.sin(1000 * at)


INCUMBENT = curve(1.0, usual)


@pytest.mark.parametrize(
    ("trained", "nans", "why"),
    [
        ([], 0, None),
        ([], 3, "its loss is not finite"),
        (curve(0.5, usual), 2, None),
        (curve(1.0, usual), 0, None),
        (curve(0.9, lambda at: usual(at) + 1), 0, None),  # worse, but not by far: it may be another loss
        (curve(0.9, lambda at: usual(at / 2)), 0, None),  # half as fast
        (curve(0.6, lambda at: usual(at / 8)), 0, "far behind: loss "),
        (curve(0.4, lambda at: usual(at / 8)), 0, None),  # too early to tell
        (curve(0.3, lambda at: 30.0 if 0.1 < at < 0.12 else usual(at)), 0, None),  # a spike it came back from
        (curve(0.3, lambda at: usual(at) if at < 0.1 else 50.0), 0, "its loss exploded: 10 at first, 50"),
        (curve(0.03, lambda at: 10 + 1e6 * at), 0, None),
        (curve(0.9, lambda at: 0.0), 0, None),
        (curve(0.9, lambda at: -usual(at)), 0, None),
    ],
)  # fmt: skip
def test_a_training_is_doomed_only_when_nothing_can_come_of_it(
    trained: list[CurvePoint], nans: int, why: str | None
) -> None:
    found = doomed(trained, nans, INCUMBENT)
    assert (found is None) if why is None else (found or "").startswith(why)


def test_without_an_incumbent_nothing_is_far_behind() -> None:
    assert doomed(curve(0.9, lambda at: 9.0), 0, []) is None


def test_a_curve_without_enough_points_is_not_judged() -> None:
    exploding = [CurvePoint(0.9 * i / 8, 10.0 * (1 + i)) for i in range(9)]
    assert doomed(exploding, 0, INCUMBENT) is None


def test_an_incumbent_whose_loss_never_fell_says_nothing() -> None:
    assert doomed(curve(0.9, lambda at: 5.0), 0, curve(1.0, lambda at: 3.0)) is None

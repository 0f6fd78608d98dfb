"""What ended trainings teach about one that goes on: on curves that fall like powers of time."""

from __future__ import annotations

import random

import pytest

from loop.events import CurvePoint
from loop.judging.early_stop import CHANCE, doomed
from loop.judging.forecast import LEAST, LOOKS, Ended, Forecast, features, predict, solve


def curve(
    end: float, power: float = 0.5, until: float = 1.0, noise: float = 0.0, seed: int = 0
) -> list[CurvePoint]:
    """A loss that falls to `end`."""
    chance, points = random.Random(seed), 200
    return [
        CurvePoint(i / points, end + 2 * ((i / points) ** -power - 1) + chance.gauss(0, noise))
        for i in range(5, int(until * points) + 1)
    ]


def past(count: int, sign: float = 1.0) -> list[Ended]:
    """Trainings that ended a little worse or better, the metric a third of the loss."""
    chance, found = random.Random(3), []
    for i in range(count):
        end = 3 + chance.uniform(-0.1, 0.5)
        found.append(Ended(curve(end, chance.uniform(0.4, 0.6), noise=0.02, seed=i), sign * end / 3))
    return found


INCUMBENT = Ended(curve(3.0, noise=0.02, seed=99), 1.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_is_behind_for_good_has_no_chance_and_what_is_near_has_one(sign: float) -> None:
    incumbent = Ended(INCUMBENT.curve, sign * INCUMBENT.value)

    def chance(end: float) -> float:
        found = Forecast(incumbent, past(40, sign), minimise=sign > 0).chance(
            curve(end, until=0.6, noise=0.02)
        )
        assert found is not None
        return found

    assert chance(4.0) < CHANCE
    assert 0.2 < chance(3.0) < 0.8
    assert chance(2.6) > 0.95


def test_what_is_behind_but_falls_faster_may_still_win() -> None:
    forecast = Forecast(INCUMBENT, past(40))
    steep = curve(2.7, power=0.8, until=0.5)
    now = features(steep, 0.5)
    here = features(INCUMBENT.curve, 0.5)
    assert now is not None
    assert here is not None
    assert now[0] > here[0], "it is behind"
    assert (forecast.chance(steep) or 0) > 0.1


def test_with_few_trainings_or_early_on_nothing_is_forecast() -> None:
    bad = curve(6.0, until=0.6)
    assert Forecast(INCUMBENT, past(LEAST - 1)).chance(bad) is None
    assert Forecast(INCUMBENT, past(LEAST)).chance(bad) is not None
    assert Forecast(INCUMBENT, past(40)).chance(curve(6.0, until=LOOKS[0] - 0.01)) is None
    assert Forecast(INCUMBENT, past(40)).chance([]) is None
    assert Forecast(Ended([], 1.0), past(40)).chance(bad) is None


def test_it_is_stopped_and_the_chance_is_said() -> None:
    forecast = Forecast(INCUMBENT, past(40))
    why = doomed(curve(4.0, until=0.6), 0, INCUMBENT.curve, forecast)
    assert why is not None
    assert why.startswith("at 60% its chance to become better than the incumbent is 0.0")
    assert doomed(curve(4.0, until=0.6), 0, INCUMBENT.curve) is None, "nothing has been learned"
    assert doomed(curve(3.0, until=0.6), 0, INCUMBENT.curve, Forecast(INCUMBENT, past(40))) is None


def test_the_posterior_of_a_straight_line_is_near_it_and_wide_outside() -> None:
    chance = random.Random(1)
    places = [chance.uniform(-1, 1) for _ in range(200)]
    known = [((x, 0.0, 0.0), 2 * x + chance.gauss(0, 0.1)) for x in places]
    mean, deviation = predict(known, (0.5, 0.0, 0.0))
    assert mean == pytest.approx(1.0, abs=0.05)
    assert 0.1 < deviation < 0.2, "a little too wide: the prior counts too"
    assert predict(known, (50.0, 0.0, 0.0))[1] > 2 * deviation


def test_linear_equations_are_solved() -> None:
    assert solve([[4.0, 1.0], [1.0, 3.0]], [1.0, 2.0]) == pytest.approx([1 / 11, 7 / 11])

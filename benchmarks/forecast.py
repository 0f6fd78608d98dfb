"""Measures what forecasts of trainings save and cost: `python -m benchmarks.forecast [--runs N]`.

The real trainings of data/trainings.jsonl are put in random order, again and again, and researched: what is
better becomes the incumbent, and what the forecast stops is neither learned from nor kept. So each training
is judged by a forecast that has not learned from it. The constants of the forecast were chosen on the first
trainings of the data alone; the later ones test them. It prints how many true improvements were lost, and the
seconds saved.
"""

from __future__ import annotations

import argparse
import random

from benchmarks import trainings
from loop.events import CurvePoint
from loop.judging import early_stop
from loop.judging.forecast import LOOKS, Ended, Forecast


def ended(row: dict[str, object]) -> Ended:
    """A line of the data as a training."""
    losses = row["curve"]
    assert isinstance(losses, list)
    points = [CurvePoint((k + 1) / len(losses), loss) for k, loss in enumerate(losses) if loss is not None]
    value = row["value"]
    assert isinstance(value, float)
    return Ended(points, value)


def research(order: list[Ended]) -> tuple[int, int, int, float]:
    """Improvements, those of them lost, trainings stopped, and budgets saved."""
    incumbent, done = order[0], [order[0]]
    improvements = lost = stopped = 0
    saved = 0.0
    for one in order[1:]:
        better = one.value < incumbent.value
        improvements += better
        forecast = Forecast(incumbent, done)
        for look in LOOKS:
            curve = [p for p in one.curve if p.fraction <= look]
            chance = forecast.chance(curve)
            if chance is not None and chance < early_stop.CHANCE:
                stopped, saved, lost = stopped + 1, saved + 1 - look, lost + better
                break
        else:
            done.append(one)
            incumbent = one if better else incumbent
    return improvements, lost, stopped, saved


def measure(name: str, known: list[Ended], runs: int) -> None:
    """Print what the forecast saves and costs in so many random orders of these trainings."""
    found = []
    for seed in range(runs):
        order = list(known)
        random.Random(seed).shuffle(order)
        found.append(research(order))
    improvements, lost, stopped, saved = (sum(column) for column in zip(*found, strict=True))
    count = runs * (len(known) - 1)
    print(f"{name}: {len(known)} real trainings of {trainings.BUDGET_S:g} s in {runs} orders")
    print(f"  true improvements: {improvements:.0f}, lost: {lost:.0f}")
    print(
        f"  stopped: {stopped / count:.0%} of the trainings; saved: {saved / count:.1%} of the time,", end=" "
    )
    each = saved * trainings.BUDGET_S / count
    print(f"{each:.2f} s of each training, {300 * saved / count:.0f} s of 300 s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    runs = parser.parse_args().runs
    rows = [row for row in trainings.read() if row["value"]]
    known = [ended(row) for row in rows if row["i"] < trainings.MEASURED]
    unseen = [ended(row) for row in rows if row["i"] >= trainings.MEASURED]
    measure("those its constants were chosen on", known, runs)
    measure("those that came later", unseen, runs)
    measure("all", known + unseen, runs)


if __name__ == "__main__":
    main()

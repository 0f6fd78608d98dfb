"""Compares the rules of verdicts in simulated runs of research, in which every number is in part luck.

    python benchmarks/verdicts.py [--reps 300] [--noise 0.001] [--fit]

Every rule gets the same number of trainings, that is, the same GPU time; a rule that trains things again
tries fewer ideas. Printed are the true quality of the incumbent, and how many keeps were false: the change
helps nothing, or hurts. The rules are the engine's own functions of `loop/judging/verdict.py`, fed with drawn
numbers.

Ideas are drawn from a mixture fitted to the public log of karpathy/autoresearch, branch exp/H100/mar8, and
the longer runs after it: 22 improvements in 125 experiments, 17 of them below 0.001, 0.0282 in all, about
0.04 after 700 (`--fit` prints what rule `improved` makes of the mixture at the noise of that log, which kept
one seed). What an idea gains shrinks as the incumbent gets better, as those logs show.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from loop.judging.noise import Noise
from loop.judging.verdict import Rules, Weighed, confirmed, improved

MIXTURE = (
    (0.25, "nothing much", lambda r: r.gauss(0, 0.0003)),
    (0.22, "a little better", lambda r: r.expovariate(1 / 0.0008)),
    (0.055, "much better", lambda r: 0.0065 * math.exp(r.gauss(0, 0.7))),
    (0.475, "worse", lambda r: -r.expovariate(1 / 0.003)),
)
"""Shares of ideas and what each kind does to val_bpb (positive: better) at the baseline."""
FADING = 0.015
"""Each time the incumbent has improved by so much, gains shrink by a factor of e."""
LOG_NOISE = 0.0005
"""Standard deviation of one training in the public log: one seed, one machine, but other code each time."""

Row = dict[str, float]
"""One line of the table."""


class Outcome(NamedTuple):
    """Where one simulated run of research stands after a number of trainings."""

    quality: float
    """By how much the incumbent is truly better than the baseline."""
    keeps: int
    false_keeps: int
    """Keeps whose change truly helps nothing, or hurts."""
    ideas: int
    """Ideas that were tried."""


class Idea(NamedTuple):
    """A change of the incumbent."""

    gain: float
    """By how much it is truly better."""
    combined: bool = False
    """It puts near misses together."""


def idea(generator: random.Random, quality: float) -> Idea:
    """Draw a new idea for an incumbent of this quality."""
    at = generator.random()
    for share, _, draw in MIXTURE:  # noqa: B007 - the last one takes what rounding leaves
        at -= share
        if at < 0:
            break
    gain: float = draw(generator)
    return Idea(gain * math.exp(-quality / FADING) if gain > 0 else gain)


class Luck:
    """Draws the values of trainings, and pools the noise of replicates as the engine does (`noise_of`)."""

    def __init__(self, generator: random.Random, deviation: float) -> None:
        self._generator, self._deviation = generator, deviation
        self.squares, self.degrees, self.trainings = 0.0, 0, 0

    def value(self, truth: float) -> float:
        self.trainings += 1
        return truth + self._generator.gauss(0, self._deviation)

    def replicate(self, values: list[float], truth: float) -> None:
        """Draw one more value of the same commit, and add its square to the pool (Welford's update)."""
        value = self.value(truth)
        self.squares += (value - fmean(values)) ** 2 * len(values) / (len(values) + 1)
        self.degrees += 1
        values.append(value)

    @property
    def noise(self) -> Noise:
        return Noise(math.sqrt(self.squares / self.degrees) if self.degrees else 0.0, self.degrees)


class Weigher(NamedTuple):
    """A rule by name: the function that weighs the evidence, and the settings that it gets."""

    name: str
    weigh: Callable[[float, int, int, Noise, int, Rules], Weighed]
    rules: Rules


def twice(gain: float, ours: int, theirs: int, noise: Noise, lines: int, rules: Rules) -> Weighed:
    """A rule that some loops use: what is better trains once more, and is kept if its mean is better."""
    if gain <= 0:
        return Weighed("discard", "", "")
    return Weighed("keep" if ours > 1 else "rerun", "", "")


WEIGHERS = (
    Weigher("improved", improved, Rules("improved", baseline_runs=1, combine=0)),
    Weigher("train a better one twice", twice, Rules(baseline_runs=1, combine=0)),
    Weigher("confirmed, no combining", confirmed, Rules(combine=0)),
    Weigher("confirmed", confirmed, Rules()),
)


def research(
    weigher: Weigher, generator: random.Random, deviation: float, marks: Sequence[int]
) -> list[Outcome]:
    """Simulate one run of research; returns where it stands at each number of trainings in `marks`."""
    luck = Luck(generator, deviation)
    quality, keeps, false_keeps, ideas = 0.0, 0, 0, 0
    incumbent = [luck.value(quality)]
    while len(incumbent) < weigher.rules.baseline_runs:
        luck.replicate(incumbent, quality)
    misses: list[float] = []
    outcomes: list[Outcome] = []
    while len(outcomes) < len(marks):
        if weigher.rules.combine and len(misses) >= weigher.rules.combine:
            tried, misses = Idea(sum(misses), combined=True), []
        else:
            tried = idea(generator, quality)
        ideas += 1
        kept, near = _try(weigher, luck, incumbent, quality, tried)
        while len(outcomes) < len(marks) and luck.trainings >= marks[len(outcomes)]:
            outcomes.append(Outcome(quality, keeps, false_keeps, ideas))
        if kept is not None:
            incumbent, quality = kept, quality + tried.gain
            keeps, false_keeps = keeps + 1, false_keeps + (tried.gain <= 0)
        elif near and not tried.combined:
            misses.append(tried.gain)
    return outcomes


def _try(
    weigher: Weigher, luck: Luck, incumbent: list[float], quality: float, tried: Idea
) -> tuple[list[float] | None, bool]:
    """Train and judge one idea. Returns its values, None if it is not kept, and whether it seemed better."""
    values = [luck.value(quality + tried.gain)]
    while True:
        gain = fmean(values) - fmean(incumbent)
        weighed = weigher.weigh(gain, len(values), len(incumbent), luck.noise, 0, weigher.rules)
        if weighed.action != "rerun":
            return (values if weighed.action == "keep" else None), gain > 0
        if len(incumbent) < len(values):
            luck.replicate(incumbent, quality)
        else:
            luck.replicate(values, quality + tried.gain)


def compare(deviation: float, reps: int, marks: Sequence[int], seed: int = 1) -> dict[str, list[Row]]:
    """For each rule, a row of the table for each mark: the means over `reps` simulated runs."""
    table: dict[str, list[Row]] = {}
    for weigher in WEIGHERS:
        generator = random.Random(seed)
        runs = [research(weigher, generator, deviation, marks) for _ in range(reps)]
        table[weigher.name] = [_row([run[i] for run in runs]) for i in range(len(marks))]
    return table


def _row(outcomes: list[Outcome]) -> Row:
    keeps = sum(o.keeps for o in outcomes)
    return {
        "quality": fmean(o.quality for o in outcomes),
        "error": stdev(o.quality for o in outcomes) / math.sqrt(len(outcomes)),
        "keeps": keeps / len(outcomes),
        "false": sum(o.false_keeps for o in outcomes) / max(1, keeps),
        "ideas": fmean(o.ideas for o in outcomes),
    }


def fit(reps: int) -> None:
    """Print what rule `improved` logs at the noise of the public log, beside what the log holds."""
    keeps, small, total = [], [], []
    generator = random.Random(3)
    for _ in range(reps):
        luck = Luck(generator, LOG_NOISE)
        quality, best, deltas = 0.0, luck.value(0.0), list[float]()
        while luck.trainings < 125:
            tried = idea(generator, quality)
            value = luck.value(quality + tried.gain)
            if value > best:
                deltas.append(value - best)
                best, quality = value, quality + tried.gain
        keeps.append(len(deltas))
        small.append(sum(delta < 0.001 for delta in deltas))
        total.append(sum(deltas))
    print(f"improvements in 125 trainings: {fmean(keeps):.1f} (log: 22), below 0.001: {fmean(small):.1f} "
          f"(17), in all {fmean(total):.4f} (0.0282)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare verdict rules at equal GPU time.")
    parser.add_argument("--reps", type=int, default=300, help="simulated runs of research for each rule")
    parser.add_argument("--noise", type=float, default=0.001, help="standard deviation of one training")
    parser.add_argument("--fit", action="store_true", help="also show the mixture against the public log")
    arguments = parser.parse_args()
    marks = (100, 500)
    if arguments.fit:
        fit(arguments.reps)
    print(f"noise of one training {arguments.noise:g}, {arguments.reps} simulated runs for each rule")
    print("| rule | trainings | ideas tried | true gain | keeps | false keeps |")
    print("|---|---|---|---|---|---|")
    for name, rows in compare(arguments.noise, arguments.reps, marks).items():
        for mark, row in zip(marks, rows, strict=True):
            print(
                f"| {name} | {mark} | {row['ideas']:.0f} | {row['quality']:.4f} ± {row['error']:.4f} "
                f"| {row['keeps']:.1f} | {row['false']:.1%} |"
            )


if __name__ == "__main__":
    main()

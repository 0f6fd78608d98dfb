"""Compares the rules of verdicts in simulated runs of research, in which every number is in part luck.

    python benchmarks/verdicts.py [--reps 100] [--noise 0.001] [--drift linear] [--ideas rare] [--fit]
    python benchmarks/verdicts.py --cost        (what one verdict takes in a long run)

Every rule gets the same number of trainings, that is, the same GPU time; a rule that trains things again
tries fewer ideas. Printed are the true quality of the incumbent, and how many keeps were false: the change
helps nothing, or hurts. Rule `confirmed` is the engine's own functions of `loop/judging`, fed with drawn
numbers.

Ideas and machine: research.py. Two rules show what is possible at all (best_rule.py): they know the noise,
what ideas do, and where the incumbent truly is, and decide as well as one can who does not know what the next
idea gains. `best` takes false keeps as they come, `best, careful` makes about one in twenty.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.best_rule import Best
from benchmarks.research import MIXTURES, Idea, Ideas, Machine
from loop.experiment import ExperimentPhase
from loop.judging.comparison import History, compare, first_level, successor
from loop.judging.decision import Weighed, decide
from loop.judging.gains import Belief, Kind, believe, believe_together, learn
from loop.judging.history import LEARNED
from loop.judging.level import Level, Training
from loop.judging.noise import Noise, near_in_time, pooled, usual
from loop.judging.rules import Rules
from loop.judging.verdict import FEWEST, NEWEST, TOGETHER, judge
from loop.state import Experiment, RunState
from tests.loop.trainings import training

LOG_NOISE = 0.0005
"""Standard deviation of one training in the public log: one seed, one machine, but other code each time."""
RULES = ["improved", "twice", "confirmed, no combining", "confirmed", "best, careful", "best", "oracle"]
"""The rules that are compared. `twice` trains what is better once more and keeps it if its mean is better;
`oracle` sees true gains, which no rule can."""
CAREFUL = 3.0
"""Price of a false keep, in standard deviations of one training, at which `best` makes one in twenty."""

Row = dict[str, float]
"""One line of the table."""


class Outcome(NamedTuple):
    """Where one simulated run of research stands after a number of trainings."""

    quality: float
    """By how much the incumbent is truly better than the baseline."""
    keeps: int
    false_keeps: int
    """Keeps whose change truly helps nothing, or hurts."""
    tries: int
    """Ideas that were tried, combinations included."""


def greedy(machine: Machine, ideas: Ideas, mark: int, rule: str) -> Outcome:
    """Research under a rule that looks at the candidate's mean only: `improved`, `twice` or `oracle`."""
    quality, keeps, false_keeps, tries = 0.0, 0, 0, 0
    best = machine.value(0.0)
    while machine.trainings < mark:
        gain = ideas.draw().gain_at(quality)
        tries += 1
        value = machine.value(quality + gain)
        if rule == "twice" and value > best and machine.trainings < mark:
            value = (value + machine.value(quality + gain, seed=2)) / 2
        if gain > 0 if rule == "oracle" else value > best:
            best, quality = value, quality + gain
            keeps, false_keeps = keeps + 1, false_keeps + (gain <= 0)
    return Outcome(quality, keeps, false_keeps, tries)


def best_possible(machine: Machine, ideas: Ideas, mark: int, rule: Best) -> Outcome:
    """Research under the best rule, to which the incumbent's true quality is known."""
    quality, keeps, false_keeps, tries = 0.0, 0, 0, 0
    while machine.trainings < mark:
        gain, values = ideas.draw().gain_at(quality), list[float]()
        tries, action = tries + 1, "rerun"
        while action == "rerun" and machine.trainings < mark:
            values.append(machine.value(gain, len(values) + 1))
            action = rule.action(quality, len(values), fmean(values) / machine.deviation)
        if action == "keep":
            quality, keeps, false_keeps = quality + gain, keeps + 1, false_keeps + (gain <= 0)
    return Outcome(quality, keeps, false_keeps, tries)


class Trained(NamedTuple):
    """One training: when, counted in trainings of the run, and what it measured."""

    at: int
    value: float


class Judged(NamedTuple):
    """An idea, or several together, with its verdict."""

    ideas: list[Idea]
    trainings: list[Trained]
    delta: float
    stderr: float
    parts: tuple[Belief, ...] = ()
    """What was believed of the ideas that it combines."""

    def belief(self, unit: float, kinds: tuple[Kind, ...]) -> Belief:
        gain, error = self.delta / unit, self.stderr / unit
        if self.parts:
            return believe_together(gain, error, self.parts)
        return believe(gain, error, kinds)


class Research:
    """One run of research under rule `confirmed`, judged by the engine's own functions."""

    def __init__(self, machine: Machine, ideas: Ideas, rules: Rules) -> None:
        self.machine, self.ideas, self.rules = machine, ideas, rules
        self.quality, self.keeps, self.false_keeps, self.tries = 0.0, 0, 0, 0
        self.incumbent: list[Trained] = []
        self.kept: Judged | None = None
        """The verdict that made the incumbent; None for the unchanged code."""
        self.older: list[Sequence[float]] = []
        """Values of each commit but the incumbent, in groups that lie near in time."""
        self.single: list[Judged] = []
        """The ideas that were judged by themselves."""
        self.compared: list[Judged] = []
        """Those of them that were compared with this incumbent."""
        self.misses: list[Judged] = []
        for _ in range(rules.baseline_runs):
            self.incumbent.append(self._train(0.0, len(self.incumbent) + 1))

    def run(self, mark: int) -> Outcome:
        """Research for so many trainings."""
        outcome = Outcome(0.0, 0, 0, 0)
        while self.machine.trainings < mark:
            members = self._combination()
            self.misses = [miss for miss in self.misses if miss not in members]
            self._try([idea for m in members for idea in m.ideas] or [self.ideas.draw()], members)
            if self.machine.trainings <= mark:
                outcome = Outcome(self.quality, self.keeps, self.false_keeps, self.tries)
        return outcome

    def _train(self, quality: float, seed: int) -> Trained:
        value = self.machine.value(quality, seed)
        return Trained(self.machine.trainings, value)

    def _noise(self) -> Noise:
        first = len(self.kept.trainings) if self.kept else 1
        groups = [*self.older, *near_in_time([t.value for t in self.incumbent], first)]
        return pooled(groups, usual("val_bpb", 1.0))

    def _kinds(self, unit: float) -> tuple[Kind, ...]:
        return learn(tuple((j.delta / unit, j.stderr / unit) for j in self.single[-LEARNED:]))

    def _combination(self) -> list[Judged]:
        """The near misses to try together, as `near_misses` picks them; empty when they are not worth it."""
        if not self.rules.combine:
            return []
        unit = self._noise().deviation
        kinds = self._kinds(unit)
        gains = [(miss.belief(unit, kinds).gain, miss) for miss in self.misses[-NEWEST:]]
        hopeful = sorted((g for g in gains if g[0] > 0), key=lambda g: -g[0])[: self.rules.combine]
        enough = len(hopeful) >= FEWEST and sum(gain for gain, _ in hopeful) >= TOGETHER
        return [miss for _, miss in hopeful] if enough else []

    def _history(self, noise: Noise) -> History:
        unit = noise.deviation
        kinds = self._kinds(unit)
        trainings = [Training(t.at, t.value / unit) for t in self.incumbent]
        count, start = 1, first_level(trainings[0])
        if self.kept:
            count = len(self.kept.trainings)
            own = Level(trainings[count - 1].at, fmean(t.value for t in trainings[:count]), 1 / count)
            gain, error = self.kept.delta / unit, self.kept.stderr / unit
            start = successor(own, count, gain, error, self.kept.belief(unit, kinds))
        candidates = tuple(
            Training(j.trainings[0].at, fmean(t.value for t in j.trainings) / unit, len(j.trainings))
            for j in self.compared
        )
        return History(noise, start, count, tuple(trainings[count:]), trainings[-1].at, 0, candidates, kinds)

    def _try(self, ideas: list[Idea], members: list[Judged]) -> None:
        """Train and judge one idea, or several together."""
        self.tries += 1
        after = self.quality
        for idea in ideas:  # each one finds the incumbent as the others have left it
            after += idea.gain_at(after)
        trainings = [self._train(after, 1)]
        while True:
            weighed, judged = self._judge(ideas, members, trainings)
            if weighed.action == "rerun incumbent":
                self.incumbent.append(self._train(self.quality, len(self.incumbent) + 1))
            elif weighed.action == "rerun":
                trainings.append(self._train(after, len(trainings) + 1))
            else:
                break
        if not members:
            self.single.append(judged)
            self.compared.append(judged)
        if weighed.action == "keep":
            first = len(self.kept.trainings) if self.kept else 1
            self.older += near_in_time([t.value for t in self.incumbent], first)
            self.keeps, self.false_keeps = self.keeps + 1, self.false_keeps + (after <= self.quality)
            self.quality, self.incumbent, self.kept, self.compared = after, list(trainings), judged, []
        else:
            self.older.append([t.value for t in trainings])
            self.misses += [] if members else [judged]

    def _judge(
        self, ideas: list[Idea], members: list[Judged], trainings: list[Trained]
    ) -> tuple[Weighed, Judged]:
        noise = self._noise()
        unit, history = noise.deviation, self._history(noise)
        parts = tuple(member.belief(unit, history.kinds) for member in members)
        found = compare(history, [Training(t.at, t.value / unit) for t in trainings], 0.0, parts)
        weighed = decide(found, unit, 1.0, 0, history.kinds, self.rules)
        return weighed, Judged(ideas, trainings, found.gain * unit, found.error * unit, parts)


def simulate(rule: str, reps: int, mark: int, given: argparse.Namespace) -> Row:
    """A row of the table: the means over `reps` simulated runs of so many trainings under one rule."""
    outcomes = []
    price = CAREFUL if rule == "best, careful" else 0.0
    known = Best(given.ideas, given.noise, price) if rule.startswith("best") else None
    for rep in range(reps):
        generator = random.Random(rep)
        machine = Machine(generator, given.noise, given.drift, mark, given.shared)
        ideas = Ideas(generator, given.ideas)
        if rule.startswith("confirmed"):
            rules = Rules() if rule == "confirmed" else Rules(combine=0)
            outcomes.append(Research(machine, ideas, rules).run(mark))
        elif known:
            outcomes.append(best_possible(machine, ideas, mark, known))
        else:
            outcomes.append(greedy(machine, ideas, mark, rule))
    keeps = sum(o.keeps for o in outcomes)
    return {
        "quality": fmean(o.quality for o in outcomes),
        "error": stdev(o.quality for o in outcomes) / math.sqrt(len(outcomes)),
        "keeps": keeps / len(outcomes),
        "false": sum(o.false_keeps for o in outcomes) / max(1, keeps),
        "tries": fmean(o.tries for o in outcomes),
    }


def fit(reps: int) -> None:
    """Print what rule `improved` logs at the noise of the public log, beside what the log holds."""
    keeps, small, total = [], [], []
    generator = random.Random(3)
    for _ in range(reps):
        machine, ideas = Machine(generator, LOG_NOISE), Ideas(generator, "log")
        quality, best, deltas = 0.0, machine.value(0.0), list[float]()
        while machine.trainings < 125:
            gain = ideas.draw().gain_at(quality)
            value = machine.value(quality + gain)
            if value > best:
                deltas.append(value - best)
                best, quality = value, quality + gain
        keeps.append(len(deltas))
        small.append(sum(delta < 0.001 for delta in deltas))
        total.append(sum(deltas))
    print(f"improvements in 125 trainings: {fmean(keeps):.1f} (log: 22), below 0.001: {fmean(small):.1f} "
          f"(17), in all {fmean(total):.4f} (0.0282)")  # fmt: skip


def cost(experiments: int = 10_000) -> None:
    """Print how long the verdict takes after so many experiments, one in ten of them trained twice."""
    state = RunState(base="c1", incumbent=1, baseline=1.0)
    for n in range(1, experiments + 1):
        value = 1.003 + 0.001 * (n % 7) if n > 1 else 1.0
        times = 2 if n == 1 or n % 10 == 0 else 1
        trainings = [
            training(i, f"c{n}", value + 0.001 * i, n=n, started_at=n + i / 4) for i in range(1, times + 1)
        ]
        phase: ExperimentPhase = "keep" if n == 1 else "discard" if n < experiments else "judging"
        e = Experiment(n, "c1", phase, f"c{n}", trainings=tuple(trainings), value=value)
        if phase == "discard":
            e.delta, e.stderr, e.judged_trainings = value - 1.0, 0.0012, 1
        state.experiments.append(e)
    state.experiments[0].trainings[1].started_at = experiments - 1
    took = []
    for _ in range(20):
        began = time.process_time()
        judge(state, state.experiments[-1], Rules())
        took.append(time.process_time() - began)
    print(f"the verdict on experiment {experiments}: {1000 * median(took):.0f} ms of CPU time")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare verdict rules at equal GPU time.")
    parser.add_argument("--reps", type=int, default=100, help="simulated runs of research for each rule")
    parser.add_argument("--noise", type=float, default=0.001, help="standard deviation of one training")
    parser.add_argument("--drift", choices=("none", "linear", "steps"), default="none", help="of the machine")
    parser.add_argument(
        "--shared", type=float, default=0.0, help="share of the noise's variance that is the seed's"
    )
    parser.add_argument("--ideas", choices=tuple(MIXTURES), default="log", help="what ideas do")
    parser.add_argument("--rules", nargs="+", default=RULES, choices=RULES)
    parser.add_argument("--trainings", nargs="+", type=int, default=[100, 500])
    parser.add_argument("--fit", action="store_true", help="also show the mixture against the public log")
    parser.add_argument("--cost", action="store_true", help="only show how long a verdict takes")
    given = parser.parse_args()
    if given.cost:
        return cost()
    if given.fit:
        fit(given.reps)
    print(
        f"noise {given.noise:g} (the seed's share {given.shared:g}), drift {given.drift}, "
        f"ideas `{given.ideas}`, {given.reps} runs for each rule"
    )
    print("| rule | trainings | ideas tried | true gain | keeps | false keeps |")
    print("|---|---|---|---|---|---|")
    for mark in given.trainings:
        for rule in given.rules:
            row = simulate(rule, given.reps, mark, given)
            print(
                f"| {rule} | {mark} | {row['tries']:.0f} | {row['quality']:.4f} ± {row['error']:.4f} "
                f"| {row['keeps']:.1f} | {row['false']:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

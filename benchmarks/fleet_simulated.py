"""What many seats are worth: research simulated event by event, with the engine's own agenda and verdicts.

    python -m benchmarks.fleet_simulated [--seats 1 8 32 256] [--hours 128] [--reps 10]

Only time, proposals and trainings are made up: ideas are those of benchmarks/research.py, a proposal takes
about a minute and a training five and a half. All rows spend the same GPU hours. Figures: docs/fleet.md.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
import time
from collections.abc import Callable
from statistics import fmean, stdev
from typing import NamedTuple

from benchmarks.research import Idea, Ideas, Machine
from loop import agenda
from loop import events as ev
from loop.judging import verdict
from loop.state import RunState

BASE = "b" * 40
BUDGET_S, OVERHEAD_S = 300.0, 30.0
CONFLICTS = 0.1
"""Share of candidates that cannot be merged onto a newer incumbent."""
SPREAD = 0.4
"""Deviation of the logarithm of how long a proposal takes."""


class Code(NamedTuple):
    """A commit: the changes in it that were not in its parent, and how good it truly is."""

    ideas: list[Idea]
    quality: float


class Outcome(NamedTuple):
    """How one run went."""

    quality: float
    trainings: int
    keeps: int
    false_keeps: int
    busy: float
    """Share of seat time in which something trained, once the unchanged code had trained."""
    conversations: float
    """Conversations with agents at once, on average."""
    cpu_s: float
    """Processor time of the agenda and the verdicts."""


class Run:
    """One run of research on so many seats."""

    def __init__(self, seats: int, rules: agenda.Rules, thinking_s: float, noise: float, seed: int) -> None:
        self.seats, self.rules, self.thinking_s = seats, rules, thinking_s
        self.chance = random.Random(seed)
        self.ideas, self.machine = Ideas(self.chance, "log"), Machine(self.chance, noise)
        self.state, self.now, self.seq = RunState(), 0.0, 0
        self.code: dict[str, Code] = {BASE: Code([], 0.0)}
        self.later: list[tuple[float, int, Callable[[], None]]] = []
        self.under_way: set[tuple[str, int]] = set()
        self.count = itertools.count()
        self.taken_s = self.talked_s = self.cpu_s = 0.0
        self.began, self.false_keeps = 0.0, 0
        self.record(ev.RunCreated("t", "/r", BASE, "train.py", ["python"]))
        self.record(
            ev.EngineStarted(1, "0", "simulated", budget_s=BUDGET_S, limits=ev.Limits(max_crashes=None))
        )

    def record(self, event: ev.DurableEvent) -> None:
        self.seq += 1
        self.state.apply(ev.Record(self.seq, 1e9 + self.now, event))

    def run(self, hours: float) -> Outcome:
        """Research for so many GPU hours."""
        end = 3600 * hours / self.seats
        while True:
            self.begin()
            if not self.later or self.later[0][0] > end:
                break
            then, _, what = heapq.heappop(self.later)
            self.pass_time(then)
            what()
        self.pass_time(end)
        s = self.state
        busy = self.taken_s / (self.seats * max(1.0, end - self.began))
        talked = self.talked_s / max(1.0, end - self.began)
        quality = self.code[s.incumbent_commit].quality
        return Outcome(
            quality, self.machine.trainings, s.kept - 1, self.false_keeps, busy, talked, self.cpu_s
        )

    def pass_time(self, then: float) -> None:
        if self.state.incumbent is not None:
            self.began = self.began or self.now
            self.taken_s += (then - self.now) * len(self.state.under_way)
            self.talked_s += (then - self.now) * len(self.state.in_phase("proposing"))
        self.now = then

    def begin(self) -> None:
        """Begin what the agenda says until nothing is new. Only trainings and proposals take time."""
        while True:
            began = time.process_time()
            steps = agenda.agenda(self.state, self.rules, self.seats, 1e9 + self.now)
            self.cpu_s += time.process_time() - began
            new = [step for step in steps if step.key not in self.under_way]
            if not new:
                return
            for step in new:
                if step.key in self.under_way or (step is not new[0] and step not in self.next()):
                    continue  # what the steps before have recorded has changed it
                self.do(step)

    def next(self) -> list[agenda.Step]:
        return agenda.agenda(self.state, self.rules, self.seats, 1e9 + self.now)

    def after(self, seconds: float, key: tuple[str, int], what: Callable[[], None]) -> None:
        def end() -> None:
            self.under_way.discard(key)
            what()

        self.under_way.add(key)
        heapq.heappush(self.later, (self.now + seconds, next(self.count), end))

    def do(self, step: agenda.Step) -> None:
        match step:
            case agenda.StartBaseline(n=n):
                self.record(ev.ExperimentStarted(n, BASE))
                self.record(ev.CandidateCommitted(n, BASE, BASE, "baseline", author="engine"))
            case agenda.Propose(n=n):
                self.propose(step, n)
            case agenda.CarryOver(n=n):
                self.carry_over(n)
            case agenda.Train():
                self.train(step)
            case agenda.Judge(n=n):
                self.judge(n)
            case agenda.WriteRow(n=n):
                self.record(ev.Logged(n))
            case _:
                raise AssertionError(step)

    def propose(self, step: agenda.Propose, n: int) -> None:
        parent = self.state.incumbent_commit
        if n > len(self.state.experiments) or self.state.experiment(n).parent != parent:
            self.record(ev.ExperimentStarted(n, parent))
        misses = verdict.near_misses(self.state, self.rules.judging)
        if misses:
            ideas = [idea for miss in misses for idea in self.code[miss.commit].ideas]
            self.commit(n, parent, ideas, [miss.n for miss in misses])
            return
        thinking = self.thinking_s * math.exp(self.chance.gauss(0, SPREAD))
        self.after(thinking, step.key, lambda: self.commit(n, parent, [self.ideas.draw()], []))

    def commit(self, n: int, parent: str, ideas: list[Idea], combines: list[int]) -> None:
        commit, quality = f"{n}.{self.seq}", self.code[parent].quality
        for idea in ideas:  # each one finds the incumbent as the others have left it
            quality += idea.gain_at(quality)
        self.code[commit] = Code(ideas, quality)
        self.record(ev.CandidateCommitted(
            n, commit, parent, f"idea {n}", combines=combines, author="engine" if combines else "agent"
        ))  # fmt: skip

    def carry_over(self, n: int) -> None:
        e, incumbent = self.state.experiment(n), self.state.incumbent_commit
        if self.chance.random() < CONFLICTS:
            self.record(ev.ExperimentStarted(n, incumbent, "it changes the same lines as the new incumbent"))
            return
        commit, quality = f"{n}.{self.seq}", self.code[incumbent].quality
        for idea in self.code[e.commit].ideas:
            quality += idea.gain_at(quality)
        self.code[commit] = Code(self.code[e.commit].ideas, quality)
        self.record(ev.CandidateCommitted(
            n, commit, incumbent, e.description, combines=e.combines, author="engine"
        ))  # fmt: skip

    def train(self, step: agenda.Train) -> None:
        commit = self.state.experiment(step.n).commit
        self.record(
            ev.TrainingStarted(step.n, step.training, commit, step.seed, BUDGET_S, step.seat, step.why)
        )
        value = 1.0 - self.machine.value(self.code[commit].quality, step.seed)
        ended = ev.TrainingFinished(step.n, step.training, "finished", value=value)
        self.after(
            BUDGET_S + OVERHEAD_S * self.chance.uniform(0.8, 1.2), step.key, lambda: self.record(ended)
        )

    def judge(self, n: int) -> None:
        e, before = self.state.experiment(n), self.code[self.state.incumbent_commit].quality
        found = verdict.judge(self.state, e, self.rules.judging)
        assert isinstance(found, verdict.Verdict)
        if found.status == "keep" and self.state.incumbent is not None:
            assert e.parent == self.state.incumbent_commit
            self.false_keeps += self.code[e.commit].quality <= before
        self.record(ev.Judged(
            n, found.status, e.commit,
            value=found.value, memory_gb=0.0, reason=found.reason, delta=found.delta, stderr=found.stderr,
            trainings=found.trainings,
        ))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="What many seats are worth, simulated.")
    parser.add_argument("--seats", nargs="+", type=int, default=[1, 8, 32, 256])
    parser.add_argument("--hours", type=float, default=128.0, help="GPU hours of each run")
    parser.add_argument("--reps", type=int, default=10, help="runs for each row")
    parser.add_argument("--thinking", type=float, default=60.0, help="seconds that a proposal takes")
    parser.add_argument(
        "--proposers", type=int, default=0, help="conversations at once; 0: what the seats need"
    )
    parser.add_argument("--noise", type=float, default=0.001, help="standard deviation of one training")
    given = parser.parse_args()
    rules = agenda.Rules(proposers=given.proposers)
    print(f"{given.hours:g} GPU hours, {given.thinking:g} s for a proposal, {given.reps} runs for each row")
    print("| seats | wall hours | seats busy | conversations | trainings | keeps | false keeps | true gain "
          "| per 100 GPU hours | decisions |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for seats in given.seats:
        found = [
            Run(seats, rules, given.thinking, given.noise, rep).run(given.hours) for rep in range(given.reps)
        ]
        gain, keeps = fmean(o.quality for o in found), sum(o.keeps for o in found)
        error = stdev(o.quality for o in found) / math.sqrt(len(found)) if len(found) > 1 else 0.0
        each_ms = 1000 * sum(o.cpu_s for o in found) / sum(o.trainings for o in found)
        print(
            f"| {seats} | {given.hours / seats:.1f} | {fmean(o.busy for o in found):.1%} "
            f"| {fmean(o.conversations for o in found):.1f} | {fmean(o.trainings for o in found):.0f} "
            f"| {keeps / len(found):.1f} | {sum(o.false_keeps for o in found) / max(1, keeps):.0%} "
            f"| {gain:.4f} ± {error:.4f} | {100 * gain / given.hours:.4f} | {each_ms:.1f} ms each |",
            flush=True,
        )


if __name__ == "__main__":
    main()

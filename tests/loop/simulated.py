"""An engine without processes, git or clock: it makes up the events of each step of the agenda.

Each step is a generator of events, so that a test can interleave steps as the event loop would, and can kill
the engine between any two events. What agents and trainers do is a fixed function of the experiment's number:
a run that was killed must end like one that was not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from msgspec import Struct

from loop import agenda
from loop import events as ev
from loop.agenda import Rules, Step, Train
from loop.agenda import agenda as next_steps
from loop.judging import verdict
from loop.state import RunState, fold

BASE = "b" * 40


class Plan(Struct, frozen=True):
    """What happens to experiments, by their numbers."""

    crashes: frozenset[int] = frozenset()
    """These crash until they are repaired."""
    refused: frozenset[int] = frozenset()
    """The audit refuses these proposals."""
    unmendable: frozenset[int] = frozenset()
    """Crashes for which the agent has no repair."""
    conflicts: frozenset[int] = frozenset()
    """These cannot be merged onto a newer incumbent."""
    lost: frozenset[int] = frozenset()
    """The first attempt at training these is lost."""

    def value(self, n: int) -> float:
        """What experiment `n` measures: every third is better than all before."""
        return 2.0 - 0.01 * n if n % 3 == 0 else 2.0 + 0.01 * n


class Simulation:
    """One run. `records` is its journal."""

    def __init__(
        self, plan: Plan, rules: Rules, seats: int, limits: ev.Limits, approval: bool = False
    ) -> None:
        self.plan, self.rules, self.seats = plan, rules, seats
        self.started = ev.EngineStarted(1, "test", "test", approval=approval, limits=limits)
        self.records: list[ev.Record] = []
        self.state = RunState()
        self.steps: dict[tuple[str, int], Iterator[ev.DurableEvent]] = {}
        self.record(ev.RunCreated("t", "/r", BASE, "train.py", ["python", "train.py"]))
        self.restart()

    def record(self, event: ev.DurableEvent) -> None:
        record = ev.Record(len(self.records) + 1, 1e9 + len(self.records), event)
        self.records.append(record)
        self.state.apply(record)

    def restart(self) -> None:
        """The engine was killed, and another one takes over from the journal."""
        self.steps.clear()
        self.state = fold(self.records)
        self.record(self.started)

    def agenda(self) -> list[Step]:
        return next_steps(self.state, self.rules, self.seats, now=1e9)

    def tick(self, chance: random.Random) -> bool:
        """Begin what is new on the agenda and go on with one step that is under way; False at the end."""
        steps = self.agenda()
        for step in steps:
            if step.key not in self.steps:
                self.steps[step.key] = self.do(step)
        if self.state.stopping and not steps:
            return False
        if not self.steps:
            return True  # it waits for a human
        key = chance.choice(sorted(self.steps))
        event = next(self.steps[key], None)
        if event is None:
            del self.steps[key]
        else:
            self.record(event)
        return True

    def do(self, step: Step) -> Iterator[ev.DurableEvent]:
        """The events of a step, as the engine's own code records them."""
        s = self.state
        match step:
            case agenda.StartBaseline(n=n):
                yield ev.ExperimentStarted(n, BASE)
                yield ev.CandidateCommitted(n, BASE, BASE, "baseline", author="engine")
            case agenda.Propose(n=n):
                yield from self.propose(n)
            case agenda.Repair(n=n):
                if n in self.plan.unmendable:
                    yield ev.RepairGivenUp(n, "no idea")
                else:
                    e = s.experiment(n)
                    yield ev.CandidateCommitted(n, f"mended {n}", e.parent, f"experiment {n}")
            case agenda.AskApproval(n=n):
                yield ev.ApprovalRequested(n)
            case agenda.SkipApproval(n=n):
                yield ev.Approved(n)
            case agenda.CarryOver(n=n):
                yield from self.carry_over(n)
            case agenda.Train():
                yield from self.train(step)
            case agenda.Judge(n=n):
                yield from self.judge(n)
            case agenda.WriteRow(n=n):
                yield ev.Logged(n)
            case agenda.Pause(reason=reason):
                yield ev.Paused(reason, "engine")
            case agenda.Stop(reason=reason):
                yield ev.EngineStopping(reason)

    def propose(self, n: int) -> Iterator[ev.DurableEvent]:
        s, parent = self.state, self.state.incumbent_commit
        if n > len(s.experiments) or s.experiment(n).parent != parent:
            yield ev.ExperimentStarted(n, parent)
        refused = "refused" if n in self.plan.refused else ""
        yield ev.CandidateCommitted(n, f"candidate {n}", parent, f"experiment {n}", refused=refused)

    def carry_over(self, n: int) -> Iterator[ev.DurableEvent]:
        e, incumbent = self.state.experiment(n), self.state.incumbent_commit
        if e.phase not in ("queued", "judging") or e.parent == incumbent:
            return
        if n in self.plan.conflicts:
            yield ev.ExperimentStarted(n, incumbent, "it changes the same lines as the new incumbent")
        else:
            yield ev.CandidateCommitted(n, f"{e.commit}+", incumbent, e.description, author="engine")

    def train(self, step: Train) -> Iterator[ev.DurableEvent]:
        s = self.state
        if (step.n, step.training, step.seat) not in ((t.n, t.training, t.seat) for t in s.under_way):
            if step not in self.agenda():
                return
            commit = s.experiment(step.n).commit
            yield ev.TrainingStarted(
                step.n, step.training, commit, seed=step.seed, budget_s=1.0, seat=step.seat, why=step.why
            )
        training = next(t for t in s.experiment(step.n).trainings if t.number == step.training)
        if step.n in self.plan.lost and training.attempt == 1:
            yield ev.TrainingLost(step.n, step.training, 1, "its machine is gone")
        elif step.n in self.plan.crashes and not training.commit.startswith("mended"):
            yield ev.TrainingFinished(step.n, step.training, "crashed", "it broke")
        else:
            value = self.plan.value(step.n) + 1e-4 * (step.seed - 1336)
            yield ev.TrainingFinished(step.n, step.training, "finished", value=value)

    def judge(self, n: int) -> Iterator[ev.DurableEvent]:
        e = self.state.experiment(n)
        if agenda.Judge(n) not in self.agenda():
            return
        found = verdict.judge(self.state, e, self.rules.judging)
        assert isinstance(found, verdict.Verdict)
        yield ev.Judged(
            n, found.status, e.commit,
            value=found.value, memory_gb=found.memory_gb, reason=found.reason, delta=found.delta,
            evidence=found.evidence, stderr=found.stderr, trainings=found.trainings,
        )  # fmt: skip

    def rows(self) -> list[tuple[int, str, float | None, str]]:
        """What results.tsv would say."""
        return [(e.n, e.phase, e.value, e.description) for e in self.state.experiments if e.logged]

"""Measures `search` against libraries and beside a model: `python -m benchmarks.search table|made-up|hybrid`.

`table`: the objective is learned from real trainings (data/trainings.jsonl): a ridge regression on the places
of ten hyperparameters, their squares and products. So it interpolates; its error, left one out, is printed.
A result adds noise of the size that repeated trainings show. `made-up`: the functions of
benchmarks/agents.py. Each contestant proposes the next experiment before the last result is known, as in
the engine.

`hybrid`: the table, and a scripted model whose structural ideas have stated gains. One of five helps; the
model, `search`, or both by the shares of loop/proposing/shares.py have the same number of trainings. Each
idea has a hyperparameter of its own that nobody has tuned. What looks better is trained once more.
"""

from __future__ import annotations

import argparse
import importlib
import math
import random
import statistics
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from benchmarks import agents, trainings
from loop import events as ev
from loop.agents import hyperparameters
from loop.agents.base import ResearchContext
from loop.agents.hyperparameters import Hyperparameter, Value
from loop.agents.search import agent
from loop.experiment import Training
from loop.proposing import shares
from loop.state import Experiment, RunState

SOURCE = "".join(
    f"{h.name} = {hyperparameters.show(h.value)}  # {f'a multiple of {h.multiple} ' if h.multiple else ''}"
    f"[{h.low}, {h.high}]\n"
    for h in trainings.SPACE
)
FOUND = hyperparameters.find(SOURCE)
RIDGE = 0.1
HELPS, GAIN, HARM = 0.2, 0.06, 0.03
"""How many structural ideas help, what such a one gains and what another one costs on average, in val_bpb."""
UNTUNED = 3.0
"""An idea has a hyperparameter of its own; for each unit of squared distance from its best value, so many
times the gain is lost. The model's first value is random, so that on average half of the gain is."""


class Objective(Protocol):
    """What is minimised: by its true value, and by one noisy result of it."""

    found: tuple[Hyperparameter, ...]
    source: str

    def true(self, source: str) -> float: ...

    def measure(self, source: str) -> float | None: ...


class Table:
    """val_bpb as real trainings let one expect it."""

    found, source = FOUND, SOURCE

    def __init__(self, seed: int) -> None:
        rows = [row for row in trainings.read() if row["value"]]
        x = np.array([_features({**trainings.START, **row["changes"]}) for row in rows])
        y = np.array([row["value"] for row in rows])
        grown = x.T @ x + RIDGE * np.diag([0.0] + [1.0] * (x.shape[1] - 1))
        self._weights = np.linalg.solve(grown, x.T @ y)
        hat = np.einsum("ij,jk,ik->i", x, np.linalg.inv(grown), x)
        self.error = float(np.sqrt(np.mean(((y - x @ self._weights) / (1 - hat)) ** 2)))
        self.spread, self.count = float(y.std()), len(rows)
        repeated = [row["value"] for row in rows if not row["changes"]]
        self.noise = statistics.stdev(repeated)
        self._chance = random.Random(seed)

    def true(self, source: str) -> float:
        values = {h.name: h.value for h in hyperparameters.find(source)}
        return float(_features(values) @ self._weights)

    def measure(self, source: str) -> float | None:
        return self.true(source) + self._chance.gauss(0, self.noise)


def _features(values: dict[str, Value]) -> Any:
    """1, the places of the hyperparameters, and all products of two of them, less those of the start."""
    places = np.array([h.place(values[h.name]) - h.place(h.value) for h in FOUND])
    return np.concatenate([[1.0], places, np.outer(places, places)[np.triu_indices(len(FOUND))]])


class MadeUp(agents.Objective):
    """A function of benchmarks/agents.py."""

    found, source = agents.FOUND, agents.SOURCE


# --- contestants: each runs `count` experiments and returns the true value of the incumbent after each ---


def ours(objective: Objective, seed: int, count: int) -> list[float]:
    """Agent `search`."""
    return _by_context(objective, seed, count, lambda context: agent.find_idea(context)[1])


def at_random(objective: Objective, seed: int, count: int) -> list[float]:
    """Random values of one or two hyperparameters."""
    return _by_context(objective, seed, count, lambda context: agents.at_random(context, few=True))


def _by_context(
    objective: Objective, seed: int, count: int, propose: Callable[[ResearchContext], str]
) -> list[float]:
    run = _Run(objective, seed)
    pending: list[str] = []
    for _ in range(count + 1):
        pending.append(propose(run.context(pending)))
        if len(pending) > 1:
            run.judge(pending.pop(0))
    return run.reached


class _Run:
    """A run in memory, in which every proposal changes the values of the incumbent of its time. With
    `confirmed`, what looks better is trained once more, and the second result counts: luck is not kept."""

    def __init__(self, objective: Objective, seed: int, confirmed: bool = False) -> None:
        self.confirmed, self.trainings = confirmed, 1
        self.objective, self.seed, self.past, self.incumbent = objective, seed, agents.Past(), 1
        self.past.sources.append(objective.source)
        value = objective.measure(objective.source)
        self.rows = [Experiment(1, "", "keep", "c1", "baseline", value=value, author="engine")]
        self.reached: list[float] = []

    def context(self, pending: list[str]) -> ResearchContext:
        n, past = len(self.rows) + 1 + len(pending), agents.Past()
        past.sources = [*self.past.sources, *pending]
        rows = list(self.rows)
        for i in range(len(pending)):
            rows.append(Experiment(len(rows) + 1, f"c{self.incumbent}", "training", f"c{len(rows) + 1 + i}"))
        source = self.past.sources[self.incumbent - 1]
        return ResearchContext(n, f"s{self.seed}", "", "train.py", source, {}, rows, self.incumbent, past)

    def judge(self, source: str, name: str = "search") -> None:
        """Train and judge: what measures better becomes the incumbent."""
        n, best = len(self.rows) + 1, self.rows[self.incumbent - 1].value or 0.0
        for _ in range(2 if self.confirmed else 1):
            value = self.objective.measure(source)
            self.trainings += 1
            kept = value is not None and value < best
            if not kept:
                break
        phase: ev.Status = "keep" if kept else "crash" if value is None else "discard"
        delta = None if value is None else value - best
        self.past.sources.append(source)
        started = ev.TrainingStarted(n, 1, f"c{n}", seed=1, budget_s=300.0)
        ended = Training(
            started, 300.0 * n, ev.TrainingFinished(n, 1, "finished", value=value), 300.0 * n + 300
        )
        self.rows.append(
            Experiment(
                n, f"c{self.incumbent}", phase, f"c{n}", value=value, delta=delta, trainings=(ended,),
                agent=name, reason="" if kept else "no",
            )
        )  # fmt: skip
        self.incumbent = n if kept else self.incumbent
        self.reached.append(self.objective.true(self.past.sources[self.incumbent - 1]))


def optuna(kind: str, objective: Objective, seed: int, count: int) -> list[float]:
    """A sampler of Optuna over all hyperparameters, which knows the start."""
    import warnings

    library: Any = importlib.import_module("optuna")  # of the extra `benchmarks`
    warnings.simplefilter("ignore")
    library.logging.set_verbosity(library.logging.ERROR)
    sampler: Any = (
        library.samplers.GPSampler(seed=seed)
        if kind == "GPSampler"
        else library.samplers.TPESampler(seed=seed, multivariate=True)
    )
    study = library.create_study(sampler=sampler)
    found = objective.found
    study.enqueue_trial({h.name: h.value for h in found})
    best, incumbent, reached = math.inf, objective.source, list[float]()
    waiting: list[tuple[Any, str]] = []
    for step in range(count + 2):
        trial = study.ask()
        values = {h.name: h.clip(_suggest(trial, h)) for h in found}
        waiting.append((trial, hyperparameters.change(objective.source, values, found)))
        if step and len(waiting) < 2:
            continue
        trial, source = waiting.pop(0)
        value = objective.measure(source)
        study.tell(trial, best + 0.1 if value is None else value)
        if value is not None and value < best:
            best, incumbent = value, source
        if step:
            reached.append(objective.true(incumbent))
    return reached[:count]


def _suggest(trial: Any, h: Hyperparameter) -> float:
    if isinstance(h.value, bool | int):
        step = int(h.multiple) if h.multiple.isdigit() else 1
        low = math.ceil(h.low / step) * step
        log = h.log and step == 1
        return float(trial.suggest_int(h.name, low, int(h.high // step) * step, step=step, log=log))
    return float(trial.suggest_float(h.name, h.low, h.high, log=h.log))


CONTESTANTS: dict[str, Callable[[Objective, int, int], list[float]]] = {
    "search": ours,
    "Optuna GPSampler": lambda o, seed, count: optuna("GPSampler", o, seed, count),
    "Optuna TPE": lambda o, seed, count: optuna("TPE", o, seed, count),
    "random, 1 or 2": at_random,
}


def compare(name: str, make: Callable[[int], Objective], seeds: int, count: int, only: str) -> None:
    """Print the mean true gain over the start after 10, 20 and `count` experiments, with standard errors."""
    print(f"{name}: true gain of the incumbent, mean of {seeds} runs +- standard error")
    marks = sorted({min(10, count), min(20, count), count})
    for label, run in CONTESTANTS.items():
        if only not in label:
            continue
        gains = []
        for seed in range(seeds):
            objective = make(seed)
            start = objective.true(objective.source)
            gains.append([start - value for value in run(objective, seed, count)])
        said = []
        for mark in marks:
            at = [gain[mark - 1] for gain in gains]
            error = statistics.stdev(at) / math.sqrt(seeds)
            said.append(f"after {mark}: {statistics.mean(at):.4f} +- {error:.4f}")
        print(f"  {label:18} {', '.join(said)}", flush=True)


# --- hybrid ---


class WithIdeas(Table):
    """The table, and structural ideas: each is a line of the script, with a stated gain and a hyperparameter
    of its own, whose first value is a guess of the model."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._ideas = random.Random(1000 + seed)
        self._gains: list[tuple[float, float]] = []
        """What each idea gains at the best value of its hyperparameter, and that value."""

    def idea(self, source: str) -> str:
        """The script with the model's next structural idea."""
        helps, i = self._ideas.random() < HELPS, len(self._gains)
        gain = self._ideas.expovariate(1 / (GAIN if helps else HARM)) * (1 if helps else -1)
        self._gains.append((gain, self._ideas.random()))
        return f"{source}IDEA_{i} = {self._ideas.random():.2f}  # [0.0, 1.0]\nidea({i}, IDEA_{i})\n"

    def true(self, source: str) -> float:
        values = {h.name: float(h.value) for h in hyperparameters.find(source)}
        gained = 0.0
        for i, (gain, best) in enumerate(self._gains):
            if (value := values.get(f"IDEA_{i}")) is not None:
                gained += gain - abs(gain) * UNTUNED * (value - best) ** 2
        return super().true(source) - gained


def together(names: tuple[str, ...], seed: int, count: int) -> float:
    """The true gain of a run that these agents share."""
    objective = WithIdeas(seed)
    run, start = _Run(objective, seed, confirmed=True), objective.true(objective.source)
    while run.trainings < count:
        state = RunState(base="c1", incumbent=run.incumbent, experiments=run.rows)
        name = shares.next_agent(state, names)
        context = run.context([])
        source = agent.find_idea(context)[1] if name == "search" else objective.idea(context.source)
        run.judge(source, name)
    return start - run.reached[-1]


def hybrid(seeds: int, count: int) -> None:
    """Print what a model, `search` and both together truly gain a training."""
    print(
        f"true gain a training, {count} trainings, mean of {seeds} runs +- standard error; {HELPS:.0%} of the"
    )
    print(f"model's ideas help, by {GAIN} on average where they are tuned, the others cost {HARM}")
    means = {}
    for label, names in (("model", ("model",)), ("search", ("search",)), ("both", ("model", "search"))):
        found = [together(names, seed, count) / count for seed in range(seeds)]
        means[label] = statistics.mean(found)
        print(
            f"  {label:8} {means[label]:.5f} +- {statistics.stdev(found) / math.sqrt(seeds):.5f}", flush=True
        )
    print(f"both gain {means['both'] / max(means['model'], means['search']):.2f} times the better one alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("table", "made-up", "hybrid"))
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--only", default="", help="part of a contestant's name")
    given = parser.parse_args()
    if given.what == "hybrid":
        hybrid(given.seeds, given.count)
    elif given.what == "table":
        table = Table(0)
        print(f"{table.count} trainings, val_bpb spread {table.spread:.3f}, noise {table.noise:.4f};")
        print(f"the table's error, left one out: {table.error:.4f}")
        compare("table", Table, given.seeds, given.count, given.only)
    else:
        for shape in agents.SHAPES:
            compare(shape, lambda seed, s=shape: MadeUp(seed, s), given.seeds, given.count, given.only)  # type: ignore[misc]


if __name__ == "__main__":
    main()

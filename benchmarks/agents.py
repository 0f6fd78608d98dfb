"""How well `search` searches, and how fast streamed words arrive: `python -m benchmarks.agents`.

Search: synthetic val_bpb of the hyperparameters of nanogpt/train.py, with optima away from the start, few
knobs that matter, some that work together, noise, and settings that crash. An experiment is one measurement;
one more is always in training while the next is worked out, as in the engine.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from loop.agents import knobs, search
from loop.agents.base import ResearchContext
from loop.agents.knobs import Knob
from loop.state import Experiment

SOURCE = (Path(__file__).parent.parent / "nanogpt/train.py").read_text()
FOUND = knobs.find(SOURCE)
GAP = 0.05
"""How much better than the start the optimum is."""
NOISE = 0.0015
Shape = Literal["bowl", "cone", "skew"]
Propose = Callable[[ResearchContext], str]
"""From the context to the new text of the editable file."""

SHAPES: dict[Shape, Callable[[float], float]] = {
    "bowl": lambda d: d * d,
    "cone": lambda d: abs(d) / 2,
    "skew": lambda d: d * d * (3.0 if d > 0 else 0.7),
}


class Objective:
    """A made-up val_bpb: one shape for each knob, weights of very different size, six pairs that interact."""

    def __init__(self, seed: int, shape: Shape) -> None:
        chance, count = random.Random(seed), len(FOUND)
        self._noise, self._shape = random.Random(7 * seed + 1), SHAPES[shape]
        self._weights = [math.exp(chance.gauss(0, 1.2)) for _ in FOUND]
        start = [k.place(k.value) for k in FOUND]
        self._best = [min(0.98, max(0.02, p + chance.gauss(0, 0.2))) for p in start]
        self._pairs: list[tuple[int, int, float]] = []
        for _ in range(0 if shape == "cone" else 6):
            i, j = chance.sample(range(count), 2)
            self._pairs.append((i, j, chance.uniform(-0.8, 0.8)))
        self._memory, self._speed = chance.uniform(1.35, 1.7), chance.uniform(0.75, 0.95)
        self._scale = 1.0
        self._scale = GAP / self._loss(start)

    def _loss(self, places: list[float]) -> float:
        off = [a - b for a, b in zip(places, self._best, strict=True)]
        loss = sum(w * self._shape(d) for w, d in zip(self._weights, off, strict=True))
        w = self._weights
        loss += sum(c * math.sqrt(w[i] * w[j]) * off[i] * off[j] for i, j, c in self._pairs)
        return self._scale * loss

    def true(self, source: str) -> float:
        return 1 + self._loss(_places(source))

    def measure(self, source: str) -> float | None:
        """One noisy run; None where memory runs out or the loss becomes NaN."""
        p = dict(zip((k.name for k in FOUND), _places(source), strict=True))
        values = {k.name: k.value for k in knobs.find(source)}
        crash = p["WIDTH"] + 0.6 * p["DEPTH"] + 0.5 * p["ROWS"] > self._memory or p["MATRIX_LR"] > self._speed
        if crash or int(values["WIDTH"]) % int(values["HEAD_DIM"]):
            return None
        return self.true(source) + self._noise.gauss(0, NOISE)


def _places(source: str) -> list[float]:
    values = {k.name: k.value for k in knobs.find(source)}
    return [k.place(values[k.name]) for k in FOUND]


class Past:
    def __init__(self) -> None:
        self.sources: list[str] = []

    def source(self, n: int) -> str:
        return self.sources[n - 1]

    def log(self, n: int) -> str:
        return ""


class Result:
    """One run: the share of the gap that is closed after each experiment, and the crashes."""

    def __init__(self, propose: Propose, seed: int, count: int, shape: Shape) -> None:
        objective, past = Objective(seed, shape), Past()
        self.closed: list[float] = []
        self.crashes = 0
        past.sources.append(SOURCE)
        rows = [Experiment(1, "", "keep", "c1", "baseline", value=objective.measure(SOURCE))]
        incumbent = 1
        for n in range(2, count + 3):
            context = ResearchContext(
                n, f"seed{seed}", "", "train.py", past.source(incumbent), {}, list(rows), incumbent, past
            )
            past.sources.append(propose(context))
            rows.append(Experiment(n, f"c{incumbent}", "training", f"c{n}"))
            if n > 2:  # the one before ends while this one is worked out
                incumbent = self._judge(objective, past, rows, n - 1, incumbent)

    def _judge(self, objective: Objective, past: Past, rows: list[Experiment], n: int, incumbent: int) -> int:
        e, best = rows[n - 1], rows[incumbent - 1].value
        if e.parent != f"c{incumbent}":  # kept meanwhile: merged line by line, as the engine does
            mine = {k.name: k.value for k in knobs.find(past.source(int(e.parent[1:])))}
            found = knobs.find(past.source(incumbent))
            changes = {k.name: k.value for k in knobs.find(past.source(n)) if k.value != mine[k.name]}
            past.sources[n - 1] = knobs.change(past.source(incumbent), changes, found)
            e.parent = f"c{incumbent}"
        e.value = objective.measure(past.source(n))
        self.crashes += e.value is None
        kept = e.value is not None and best is not None and e.value < best
        e.phase = "keep" if kept else "crash" if e.value is None else "discard"
        e.reason = "out of memory" if e.value is None else ""
        incumbent = n if kept else incumbent
        self.closed.append((1 + GAP - objective.true(past.source(incumbent))) / GAP)
        return incumbent


def ours(context: ResearchContext) -> str:
    return search.find_idea(context, "cpu")[1]


def at_random(context: ResearchContext, few: bool) -> str:
    """Anywhere within the ranges: all knobs, or one or two of the incumbent's."""
    found, chance = knobs.find(context.source), random.Random(f"{context.tag}/{context.n}")
    chosen: list[Knob] = chance.sample(found, chance.choice((1, 2))) if few else list(found)
    return knobs.change(context.source, {k.name: k.at(chance.random()) for k in chosen}, found)


def compare(seeds: int, count: int) -> None:
    contestants: dict[str, Propose] = {
        "search": ours,
        "random, 1 or 2 knobs": partial(at_random, few=True),
        "random, all knobs": partial(at_random, few=False),
    }
    print(
        f"share of the gap closed, mean of {seeds} runs (standard error); noise {NOISE / GAP:.0%} of the gap"
    )
    print(f"{'':28}{'after 10':>10}{'after 20':>10}{f'after {count}':>10}{'crashes':>17}{'proposal':>11}")
    shapes: tuple[Shape, ...] = ("bowl", "cone", "skew")
    for shape in shapes:
        for name, propose in contestants.items():
            started = time.perf_counter()
            runs = [Result(propose, seed, count, shape) for seed in range(seeds)]
            means = [statistics.mean(run.closed[n - 1] for run in runs) for n in (10, 20, count)]
            error = statistics.stdev(run.closed[count - 1] for run in runs) / math.sqrt(seeds)
            crashes = statistics.mean(run.crashes for run in runs)
            each = (time.perf_counter() - started) / seeds / (count + 1)
            shares = "".join(f"{mean:10.0%}" for mean in means)
            print(f"{shape:6}{name:22}{shares} ({error:.1%}){crashes:9.1f}{1000 * each:8.0f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("search", "words"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--count", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.what in (None, "search"):
        compare(arguments.seeds, arguments.count)
    if arguments.what in (None, "words"):
        asyncio.run(asyncio.sleep(0))


if __name__ == "__main__":
    main()

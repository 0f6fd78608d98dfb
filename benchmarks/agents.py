"""Measures how well `search` searches, and how fast streamed words arrive: `python -m benchmarks.agents`.

Search: the metric is a made-up function of a GPT's hyperparameters. Its optimum lies away from the start, few
hyperparameters matter, some act together, results are noisy and some settings crash. An experiment is one
result of this function; the next one is always proposed before the last result is known, as in the engine.

Words: a server streams words to a real engine, and the time is measured until they reach a client of the
engine. Screen: the same until the first word of a turn stands on the screen of a real cockpit.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from loop import events as ev
from loop.agents import hyperparameters
from loop.agents.base import ResearchContext
from loop.agents.hyperparameters import Hyperparameter
from loop.agents.search import agent
from loop.paths import RunPaths
from loop.service import attach, launch
from loop.state import Experiment
from tests.conftest import make_repository
from tests.e2e.terminal import Terminal
from tests.loop.agents.api import wire
from tests.loop.agents.api.wire import Reply

SOURCE = """\
DEPTH = 3  # transformer blocks [1, 8]
WIDTH = 128  # residual width D, a multiple of HEAD_DIM [64, 512]
HEAD_DIM = 32  # width of one attention head [16, 64]
MLP_RATIO = 4  # hidden width of the MLP over D [2, 8]
ROPE_BASE = 10000.0  # longest rotary wavelength [1000.0, 300000.0]
QK_SCALE = 1.2  # sharpens attention after QK-norm [0.8, 2.0]
SOFTCAP = 15.0  # logits stay within +- this [8.0, 60.0]
NGRAM_ROWS = 131072  # rows of each hashed n-gram table [16384, 524288]
ROWS = 8  # rows of SEQUENCE tokens a step [4, 64]
MATRIX_LR = 0.02  # Muon, all matrices of the blocks [0.004, 0.1]
EMBED_LR = 0.3  # AdamW, token embedding [0.03, 1.5]
HEAD_LR = 0.006  # AdamW, output head [0.001, 0.03]
SCALAR_LR = 0.02  # AdamW, residual and x0 weights [0.002, 0.2]
NGRAM_LR = 0.1  # row-wise Adagrad, n-gram tables [0.01, 1.0]
MOMENTUM = 0.95  # Muon's Nesterov momentum [0.8, 0.98]
WEIGHT_DECAY = 0.1  # cautious, on matrices, falls to 0 with the budget [0.01, 0.5]
WARMDOWN = 0.6  # share of the budget over which the learning rates fall [0.2, 1.0]
FINAL_LR = 0.03  # learning rate at the end, of its peak [0.005, 0.2]
"""
"""Hyperparameters of an early nanogpt/train.py: a copy, so that figures can be compared over time."""
FOUND = hyperparameters.find(SOURCE)
GAP = 0.05
"""How much better than the start the optimum is."""
NOISE = 0.0015
"""Standard deviation of a result."""
Shape = Literal["bowl", "cone", "skew"]
"""How the loss grows with the distance of a hyperparameter from its optimum."""
Propose = Callable[[ResearchContext], str]
"""From the context to the new text of the editable file."""

SHAPES: dict[Shape, Callable[[float], float]] = {
    "bowl": lambda d: d * d,
    "cone": lambda d: abs(d) / 2,
    "skew": lambda d: d * d * (3.0 if d > 0 else 0.7),
}


class Objective:
    """A made-up val_bpb: a sum over the hyperparameters, with weights of very different size, and over six
    pairs that act together. A cone has no such pairs."""

    def __init__(self, seed: int, shape: Shape) -> None:
        chance, count = random.Random(seed), len(FOUND)
        self._noise, self._shape = random.Random(7 * seed + 1), SHAPES[shape]
        self._weights = [math.exp(chance.gauss(0, 1.2)) for _ in FOUND]
        start = [h.place(h.value) for h in FOUND]
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
        """The value without noise."""
        return 1 + self._loss(_places(source))

    def measure(self, source: str) -> float | None:
        """One noisy result; None where memory would run out or the loss would become NaN."""
        p = dict(zip((h.name for h in FOUND), _places(source), strict=True))
        values = {h.name: h.value for h in hyperparameters.find(source)}
        crash = p["WIDTH"] + 0.6 * p["DEPTH"] + 0.5 * p["ROWS"] > self._memory or p["MATRIX_LR"] > self._speed
        if crash or int(values["WIDTH"]) % int(values["HEAD_DIM"]):
            return None
        return self.true(source) + self._noise.gauss(0, NOISE)


def _places(source: str) -> list[float]:
    """Where each hyperparameter of a source lies in its range."""
    values = {h.name: h.value for h in hyperparameters.find(source)}
    return [h.place(values[h.name]) for h in FOUND]


class Past:
    """The sources of past experiments."""

    def __init__(self) -> None:
        self.sources: list[str] = []

    def source(self, n: int) -> str:
        return self.sources[n - 1]

    def log(self, n: int) -> str:
        return ""

    def progress(self, n: int) -> list[ev.Progress]:
        return []


class Result:
    """One run of `count` experiments: which share of the gap is closed after each, and how many crashed."""

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
        if e.parent != f"c{incumbent}":  # there is a new incumbent: its lines are merged in, as in the engine
            mine = {h.name: h.value for h in hyperparameters.find(past.source(int(e.parent[1:])))}
            found = hyperparameters.find(past.source(incumbent))
            changes = {
                h.name: h.value for h in hyperparameters.find(past.source(n)) if h.value != mine[h.name]
            }
            past.sources[n - 1] = hyperparameters.change(past.source(incumbent), changes, found)
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
    return agent.find_idea(context)[1]


def at_random(context: ResearchContext, few: bool) -> str:
    """Random values within the ranges: of one or two hyperparameters, or of all."""
    found, chance = hyperparameters.find(context.source), random.Random(f"{context.tag}/{context.n}")
    chosen: list[Hyperparameter] = chance.sample(found, chance.choice((1, 2))) if few else list(found)
    return hyperparameters.change(context.source, {h.name: h.at(chance.random()) for h in chosen}, found)


def compare(seeds: int, count: int) -> None:
    """Print how much of the gap `search` and random search close."""
    contestants: dict[str, Propose] = {
        "search": ours,
        "random, 1 or 2 of them": partial(at_random, few=True),
        "random, all of them": partial(at_random, few=False),
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


# --- words ---

HERE = Path(__file__).resolve().parents[1]
COCKPIT_S = 20.0
"""The first turn waits so long for the cockpit to start."""

WORDS = [f"word{i} " for i in range(100)]


def _reply(api: str) -> Reply:
    """A turn of a hundred words, 20 ms apart, that ends without a tool call."""
    spread: list[Any] = [piece for word in WORDS for piece in (word, 0.02)]
    if api == "claude":
        return wire.message(wire.text(*spread), stop="end_turn")
    if api == "responses":
        return wire.response(wire.output_text("".join(WORDS).strip()), pause=0.02)
    return wire.chunks(*(p if isinstance(p, float) else {"content": p} for p in spread), finish="stop")


async def words(api: str) -> None:
    """Print how long words take from the server to a client at the socket of a real engine."""
    with tempfile.TemporaryDirectory() as folder:
        root = make_repository(Path(folder) / "repository")
        paths = RunPaths(root, "words")
        async with wire.Wire(*(_reply(api) for _ in range(3))) as peer:
            await asyncio.to_thread(launch.start_detached, paths, _flags(api, peer))
            client = await attach.connect(paths)
            shown: list[tuple[float, str]] = []
            async for record in client.records():
                if isinstance(record.event, ev.AgentDelta) and record.event.kind == "text":
                    shown.append((time.time(), record.event.text))
                if len(shown) >= 3 * len(WORDS):
                    break
            await client.send(ev.StopEngine(now=True))
            await client.close()
        sent = [t for t, event in peer.sent if "word" in str(event.get("delta") or event.get("choices"))]
    late = sorted(1000 * (b - a) for a, (b, _) in zip(sent, shown, strict=True))
    first = max(1000 * (shown[i][0] - sent[i]) for i in range(0, len(sent), len(WORDS)))
    whole = "".join(text for _, text in shown) == "".join(WORDS) * 3
    middle, most = late[len(late) // 2], late[len(late) * 99 // 100]
    print(
        f"{api:10} first word of a turn at most {first:5.1f} ms; all words: median {middle:4.1f} ms, "
        f"99% {most:5.1f} ms; {'none lost or doubled' if whole else 'WORDS LOST OR DOUBLED'}"
    )


def _flags(api: str, peer: wire.Wire) -> dict[str, str]:
    agent = {"agent": "claude"} if api == "claude" else {"agent": "gpt", "api": api}
    return {**agent, "model": "m", "base_url": peer.url}


def _turn(api: str, word: str, after: float) -> Reply:
    """A turn that begins with this word, so many seconds after it was asked for, and calls no tool."""
    rest = [piece for more in WORDS for piece in (more, 0.02)]
    spoken: list[Any] = [after, f"{word} ", 0.02, *rest]
    if api == "claude":
        return wire.message(wire.text(*spoken), stop="end_turn")
    if api == "responses":
        reply = wire.response(wire.output_text(f"{word} {''.join(WORDS)}".strip()), pause=0.02)
        return msgspec.structs.replace(reply, events=[after, *reply.events])
    return wire.chunks(*(p if isinstance(p, float) else {"content": p} for p in spoken), finish="stop")


async def screen(api: str) -> None:
    """Print how long the first word of a turn takes from the server to the screen of a real cockpit."""
    with tempfile.TemporaryDirectory() as folder:
        root = make_repository(Path(folder) / "repository")
        paths, words = RunPaths(root, "words"), [f"first-of-turn-{i}" for i in range(3)]
        turns = [_turn(api, word, 1.0 if i else COCKPIT_S) for i, word in enumerate(words)]
        async with wire.Wire(*turns) as peer:
            await asyncio.to_thread(launch.start_detached, paths, _flags(api, peer))
            command = [sys.executable, "-m", "loop.cli", "attach", "--tag", "words"]
            cockpit = await asyncio.to_thread(Terminal, command, root)
            try:
                seen = []
                for word in words:
                    await asyncio.to_thread(cockpit.wait_for, word, seconds=120.0)
                    seen.append(time.time())
            finally:
                cockpit.kill()
                client = await attach.connect(paths)
                await client.send(ev.StopEngine(now=True))
                await client.close()
        sent = [next(t for t, event in peer.sent if word in str(event)) for word in words]
    late = [1000 * (b - a) for a, b in zip(sent, seen, strict=True)]
    print(f"{api:10} first word of a turn on the screen: {', '.join(f'{ms:.0f} ms' for ms in late)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("search", "words", "screen"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--count", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.what in (None, "search"):
        compare(arguments.seeds, arguments.count)
    if arguments.what in (None, "words"):
        os.environ |= {"ANTHROPIC_API_KEY": "none", "OPENAI_API_KEY": "none"}
        for api in ("claude", "responses", "chat"):
            asyncio.run(words(api))
    if arguments.what in (None, "screen"):
        os.environ |= {"ANTHROPIC_API_KEY": "none", "OPENAI_API_KEY": "none", "PYTHONPATH": str(HERE)}
        for api in ("claude", "responses", "chat"):
            asyncio.run(screen(api))


if __name__ == "__main__":
    main()

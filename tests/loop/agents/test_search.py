"""Agent `search` learns from the run's history alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from loop import events as ev
from loop.agents import knobs
from loop.agents.base import AgentFailed, AgentStopped, Failure, ResearchContext
from loop.agents.search import SearchAgent
from loop.state import Experiment
from tests.conftest import TRAINER, git
from tests.loop.scripted import Bench

SCRIPT = "A = 3.0  # [0.5, 10.0]\nB = 2.0  # [0.5, 10.0]\nFLAG = True\n"


class Memory:
    """Sources of past experiments."""

    def __init__(self) -> None:
        self.sources: dict[int, str] = {}

    def source(self, n: int) -> str:
        return self.sources[n]

    def log(self, n: int) -> str:
        return ""


class World:
    """A run in memory, judged by a function of the script's knobs."""

    def __init__(self, loss: Callable[[dict[str, float]], float], script: str = SCRIPT) -> None:
        self.loss, self.memory, self.incumbent = loss, Memory(), 1
        self.experiments: list[Experiment] = []
        self.said: list[ev.AgentDelta | ev.CandidateEdited] = []
        self._judge(script)

    def _judge(self, source: str) -> bool:
        n, value = len(self.experiments) + 1, self.value(source)
        kept = n == 1 or value < (self.experiments[self.incumbent - 1].value or 0)
        self.memory.sources[n] = source
        e = Experiment(n, "p", phase="keep" if kept else "discard", commit=f"c{n}", value=value)
        self.experiments.append(e)
        if kept:
            self.incumbent = n
        return kept

    def value(self, source: str) -> float:
        return self.loss({knob.name: float(knob.value) for knob in knobs.find(source)})

    def context(self, failure: Failure | None = None) -> ResearchContext:
        source = self.memory.sources[self.incumbent]
        n = len(self.experiments) + 1
        return ResearchContext(
            n, "t", "", "train.py", source, {}, self.experiments, self.incumbent, self.memory, failure=failure
        )

    async def step(self) -> str:
        proposal = await SearchAgent().propose(self.context(), self.said.append)
        self._judge(proposal.source)
        return proposal.source


async def test_it_finds_the_minimum_of_a_bowl() -> None:
    world = World(lambda k: (k["A"] - 1) ** 2 + (k["B"] - 5) ** 2 + k["FLAG"])
    for _ in range(40):
        await world.step()
    start, best = world.experiments[0].value, world.experiments[world.incumbent - 1].value
    assert start is not None
    assert best is not None
    assert best < start / 10


async def test_it_never_tries_the_same_twice_and_says_what_it_does() -> None:
    world = World(lambda k: 1.0)
    tried = [await world.step() for _ in range(25)]
    assert len({knobs.fingerprint(source) for source in [SCRIPT, *tried]}) == 26
    texts = [e.text for e in world.said if isinstance(e, ev.AgentDelta) and e.kind == "text"]
    tools = [e.text for e in world.said if isinstance(e, ev.AgentDelta) and e.kind == "tool"]
    edits = [e for e in world.said if isinstance(e, ev.CandidateEdited)]
    assert len(texts) == len(tools) == len(edits) == 25
    assert re.fullmatch(r"(A|B|FLAG) \S+ -> \S+", tools[0])


async def test_the_same_history_gives_the_same_proposal() -> None:
    worlds = [World(lambda k: k["A"]) for _ in range(2)]
    for _ in range(14):
        first, second = [await world.step() for world in worlds]
        assert first == second


async def test_it_says_when_there_is_nothing_to_vary_or_nothing_left() -> None:
    with pytest.raises(AgentStopped, match="no UPPER_CASE number"):
        await World(lambda k: 1.0, "x = 1\n").step()
    world = World(lambda k: 1.0, "FLAG = True\n")
    await world.step()
    with pytest.raises(AgentFailed, match="has been tried"):
        await world.step()


async def test_it_repairs_nothing() -> None:
    with pytest.raises(AgentFailed, match="does not repair"):
        await SearchAgent().propose(World(lambda k: 1.0).context(Failure(1, "x", "", "")), lambda e: None)


async def test_it_improves_a_real_repository(repository: Path) -> None:
    (repository / "train.py").write_text(TRAINER.replace("STEPS = 4", "STEPS = 4  # [1, 8]"))
    git(repository, "commit", "-qam", "range")
    bench = Bench(repository, SearchAgent(), max_experiments=8, budget_s=0.05)
    await bench.run()
    state = bench.engine.state
    assert state.rows == 8
    assert state.best is not None
    assert state.baseline is not None
    assert state.best < state.baseline

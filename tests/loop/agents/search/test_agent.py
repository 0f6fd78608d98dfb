"""Agent `search` learns from the run's history alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.agents import Result, at_random, ours
from loop import events as ev
from loop.agents import hyperparameters, program
from loop.agents.base import AgentFailed, AgentStopped, Failure, ResearchContext
from loop.agents.search.agent import SearchAgent
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

    def progress(self, n: int) -> list[ev.Progress]:
        return []


class World:
    """A run in memory, judged by a function of the script's hyperparameters."""

    def __init__(self, loss: Callable[[dict[str, float]], float], script: str = SCRIPT) -> None:
        self.loss, self.memory, self.incumbent = loss, Memory(), 1
        self.experiments: list[Experiment] = []
        self.said: list[ev.AgentDelta | ev.CandidateEdited] = []
        self._judge(script)

    def _judge(self, source: str) -> bool:
        n, value = len(self.experiments) + 1, self.value(source)
        crashed = math.isnan(value)
        kept = n == 1 or value < (self.experiments[self.incumbent - 1].value or 0)
        self.memory.sources[n] = source
        parent = f"c{self.incumbent}"
        e = Experiment(n, parent, "keep" if kept else "crash" if crashed else "discard", f"c{n}")
        e.value, e.reason = (None, "out of memory") if crashed else (value, "")
        self.experiments.append(e)
        if kept:
            self.incumbent = n
        return kept

    def value(self, source: str) -> float:
        return self.loss(
            {
                hyperparameter.name: float(hyperparameter.value)
                for hyperparameter in hyperparameters.find(source)
            }
        )

    def context(self, failure: Failure | None = None) -> ResearchContext:
        source = self.memory.sources[self.incumbent]
        n = len(self.experiments) + 1
        return ResearchContext(
            n, "t", "", "train.py", source, {}, self.experiments, self.incumbent, self.memory, failure=failure
        )

    def human(self, source: str) -> None:
        """An experiment that somebody else proposed."""
        self._judge(source)

    @property
    def best(self) -> float:
        return self.experiments[self.incumbent - 1].value or math.inf

    def tried(self, name: str) -> list[float]:
        """The values of a hyperparameter in all experiments."""
        sources = self.memory.sources.values()
        return [float(k.value) for source in sources for k in hyperparameters.find(source) if k.name == name]

    async def step(self) -> str:
        proposal = await SearchAgent().propose(self.context(), self.said.append)
        self._judge(proposal.source)
        return proposal.source


async def test_it_finds_the_minimum_of_a_bowl() -> None:
    world = World(lambda k: (k["A"] - 1) ** 2 + (k["B"] - 5) ** 2 + k["FLAG"])
    for _ in range(40):
        await world.step()
    assert world.best < (world.experiments[0].value or 0) / 20


async def test_it_never_tries_the_same_twice_and_says_what_it_does() -> None:
    world = World(lambda k: 1.0)
    tried = [await world.step() for _ in range(25)]
    assert len({program.fingerprint(source) for source in [SCRIPT, *tried]}) == 26
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


async def test_it_goes_nowhere_beyond_what_crashed() -> None:
    """Larger A is better, until it does not fit into memory."""
    world = World(lambda k: math.nan if k["A"] > 5 else 10 - k["A"], "A = 3.0  # [0.5, 10.0]\n")
    for _ in range(12):
        await world.step()
    crashes = [a for a in world.tried("A") if a > 5]
    assert crashes == sorted(crashes, reverse=True), "each lies nearer than the one before"
    assert 1 <= len(crashes) <= 4
    assert world.best < 10 - 4
    texts = [e.text for e in world.said if isinstance(e, ev.AgentDelta) and e.kind == "text"]
    assert any("crashed (out of memory)" in text for text in texts)


async def test_the_model_is_told_in_the_transcript() -> None:
    world = World(lambda k: (k["A"] - 1) ** 2 + (k["B"] - 5) ** 2 + k["FLAG"])
    for _ in range(10):
        await world.step()
    texts = [e.text for e in world.said if isinstance(e, ev.AgentDelta) and e.kind == "text"]
    assert "has not been varied yet in this run. Little is known yet" in texts[0]
    assert re.search(r"so far: .* gave val_bpb .*From \d+ results I expect val_bpb [+-]\d", texts[-1])


async def test_what_a_human_or_a_model_makes_of_the_script_is_followed() -> None:
    def loss(k: dict[str, float]) -> float:
        return (k["A"] - 1) ** 2 + (k["B"] - 5) ** 2 - 10 * ("NEW" in k) + (k.get("NEW", 4.0) - 4.0) ** 2

    world = World(loss)
    for _ in range(8):
        await world.step()
    better = re.sub("FLAG = .*", "NEW = 2.0  # [1.0, 8.0]", world.memory.sources[world.incumbent])
    world.human(better + "print(NEW)\n")
    assert world.incumbent == 10, "a version with another hyperparameter is the incumbent now"
    for _ in range(15):
        assert "FLAG" not in await world.step()
    assert {2.0} < set(world.tried("NEW"))
    assert world.best < -9


async def test_what_is_in_training_is_not_proposed_again() -> None:
    world = World(lambda k: (k["A"] - 1) ** 2 + (k["B"] - 5) ** 2)
    for _ in range(6):
        await world.step()
    first = await SearchAgent().propose(world.context(), lambda e: None)
    world.memory.sources[8] = first.source
    world.experiments.append(Experiment(8, f"c{world.incumbent}", "training", "c8"))
    second = await SearchAgent().propose(world.context(), lambda e: None)
    assert second.source != first.source


def test_it_is_better_than_random_search() -> None:
    """The benchmark of benchmarks/agents.py, small: same seeds, same number of experiments."""
    closed = {
        propose: fmean(Result(propose, seed, 16, "bowl").closed[-1] for seed in range(2))
        for propose in (ours, partial(at_random, few=True), partial(at_random, few=False))
    }
    mine, *others = closed.values()
    assert mine > 1.4 * max(others), closed


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

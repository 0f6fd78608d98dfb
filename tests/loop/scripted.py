"""An agent that says what a test tells it to, and an engine in this process around it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from loop import config
from loop import events as ev
from loop.agents.base import Agent, Emit, Proposal, ResearchContext
from loop.config import Settings
from loop.engine import Engine
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.store import Store
from loop.training.executor import Executor
from loop.training.local import LocalExecutor

E = TypeVar("E", bound=ev.Event)
Make = Callable[[Settings, RunPaths, Repository], Executor]
Script = Callable[[ResearchContext], Proposal]


def set_x(context: ResearchContext) -> Proposal:
    """Experiment n sets X to 3 - n/4: each is better than the one before."""
    source = re.sub(r"^X = .*$", f"X = {3 - context.n / 4}", context.source, flags=re.MULTILINE)
    return Proposal(f"X to {3 - context.n / 4}", source, "closer to the minimum")


class ScriptedAgent:
    """Calls `script` for each proposal, after `delay_s`; remembers the contexts it got."""

    name, model = "scripted", ""
    secrets: tuple[str, ...] = ()

    def __init__(self, script: Script = set_x, delay_s: float = 0.0) -> None:
        self.script, self.delay_s = script, delay_s
        self.contexts: list[ResearchContext] = []

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        self.contexts.append(context)
        emit(ev.AgentDelta(context.n, "text", f"experiment {context.n}: thinking", id=str(context.n)))
        await asyncio.sleep(self.delay_s)
        return self.script(context)

    async def close(self) -> None:
        pass


class Bench:
    """One engine on one repository; `records` is everything it published."""

    def __init__(
        self,
        root: Path,
        agent: Agent,
        tag: str = "t",
        *,
        make: Make = LocalExecutor,
        unattended: bool = False,
        **flags: object,
    ) -> None:
        self.repository = Repository.discover(root)
        self.paths = RunPaths(root, tag)
        self.paths.create()
        head, environ, everything = self.repository.head(), {"PATH": os.environ["PATH"]}, config.described()
        settings = config.load(self.repository, head, flags, environ, everything)
        self.records: list[ev.Record] = []
        self.store = Store.open(self.paths.journal)
        self.store.listen(self.records.append)
        self.engine = Engine(
            settings,
            self.paths,
            self.repository,
            self.store,
            agent,
            make(settings, self.paths, self.repository),
            stop_at_limit=True,
            unattended=unattended,
        )
        if not self.engine.state.tag:
            base = self.repository.head()
            self.store.record(ev.RunCreated(tag, str(root), base, settings.path, settings.train_command))
        self.store.record(
            ev.EngineStarted(
                os.getpid(),
                "test",
                agent.name,
                approval=settings.approve,
                limits=settings.limits,
                keep_models=settings.keep_models,
            )
        )

    async def run(self) -> str:
        try:
            return await self.engine.run()
        finally:
            self.close()

    def close(self) -> None:
        self.store.close()
        self.repository.close()

    def events(self, kind: type[E]) -> list[E]:
        return [record.event for record in self.records if isinstance(record.event, kind)]


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition of a running engine."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions are about files and processes too
            await asyncio.sleep(0.01)


async def keep_baseline(bench: Bench, *, logged: bool = True) -> None:
    """Record what an engine records until the baseline is kept: for benches whose engine does not run."""
    await bench.engine._candidates.start_baseline(1)
    base = bench.engine.state.base
    events: list[ev.DurableEvent] = [
        ev.TrainingStarted(1, 1, base, seed=1337, budget_s=1.0),
        ev.TrainingFinished(1, 1, "finished", value=6.0, memory_gb=0.5),
        ev.Judged(1, "keep", base, 6.0, 0.5, "baseline"),
    ]
    for event in events + ([ev.Logged(1)] if logged else []):
        bench.store.record(event)

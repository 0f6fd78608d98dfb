"""A `ResearchContext` without an engine, and what an agent says in it."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path
from typing import Any

from loop import events as ev
from loop.agents.base import Agent, Proposal, ResearchContext
from loop.experiment import Experiment
from tests.conftest import TRAINER


class Past:
    """An archive of sources, logs and progress lines given by a test."""

    def __init__(
        self,
        sources: dict[int, str] | None = None,
        logs: dict[int, str] | None = None,
        curves: dict[int, list[ev.Progress]] | None = None,
    ) -> None:
        self.sources, self.logs, self.curves = sources or {}, logs or {}, curves or {}

    def source(self, n: int) -> str:
        return self.sources.get(n, TRAINER)

    def log(self, n: int) -> str:
        return self.logs.get(n, "")

    def progress(self, n: int) -> list[ev.Progress]:
        return self.curves.get(n, [])


def baseline() -> Experiment:
    return Experiment(1, "p", "keep", "c1", "baseline", value=1.0, logged=True)


def long_run(count: int) -> list[Experiment]:
    """A run of `count` experiments, a fortieth of them kept, with wordy descriptions."""
    chance, best = random.Random(0), 1.0
    run = [baseline()]
    for n in range(2, count + 1):
        phase: ev.Status = "keep" if n % 40 == 0 else "crash" if n % 11 == 0 else "discard"
        value = None if phase == "crash" else best - 0.001 if phase == "keep" else best + chance.random() / 10
        best = min(best, value or best)
        words = " ".join(
            chance.choice(["raise", "lower", "MATRIX_LR", "depth", "muon", "data"]) for _ in range(30)
        )
        reason = "Traceback " * 40 if phase == "crash" else ""
        run.append(
            Experiment(
                n, "p", phase, f"c{n}", words, value=value, reason=reason, memory_gb=44.0, added=3, removed=1
            )
        )
    return run


def context(**fields: Any) -> ResearchContext:
    """Experiment 2 on top of the baseline, unless told otherwise."""
    given: dict[str, Any] = {
        "n": 2, "tag": "t", "program": "Make it better.", "path": "train.py", "source": TRAINER,
        "readonly": {}, "experiments": [baseline()], "incumbent": 1, "archive": Past(), **fields,
    }  # fmt: skip
    return ResearchContext(**given)


class Heard:
    """Takes what an agent emits, with the time of each piece."""

    def __init__(self) -> None:
        self.deltas: list[ev.AgentDelta] = []
        self.edits: list[ev.CandidateEdited] = []
        self.times: list[float] = []

    def __call__(self, event: ev.AgentDelta | ev.CandidateEdited) -> None:
        if isinstance(event, ev.AgentDelta):
            self.deltas.append(event)
            self.times.append(time.time())
        else:
            self.edits.append(event)

    def texts(self, kind: str) -> list[str]:
        """Messages of a kind, pieces with the same id joined."""
        found: dict[str, str] = {}
        for delta in self.deltas:
            if delta.kind == kind:
                found[delta.id] = found.get(delta.id, "") + delta.text
        return list(found.values())


async def propose(agent: Agent, heard: Heard, given: ResearchContext | None = None) -> Proposal:
    try:
        return await agent.propose(given or context(), heard)
    finally:
        await agent.close()


def everything_under(folder: Path) -> bytes:
    """All bytes of all files of a folder, and of all git objects unpacked if it is a repository."""
    found = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    if (folder / ".git").exists():
        command = ["git", "cat-file", "--batch-all-objects", "--batch"]
        found += subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout
    return found

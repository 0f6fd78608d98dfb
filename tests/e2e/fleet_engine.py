"""An engine process on a cluster, to be killed at any moment. Run by test_fleet_kills.py.

    python -m tests.e2e.fleet_engine REPOSITORY EXPERIMENTS EXECUTOR

Every proposal is worse than the baseline, whatever else has been tried, so a run ends the same in any order.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from loop import config
from loop.agents.base import Agent, Proposal, ResearchContext
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.service import launch
from loop.training import trainings
from tests.loop.scripted import ScriptedAgent


def value(n: int) -> float:
    """Where experiment `n` puts X; 3 is better."""
    return 3 + n / 64


def propose(context: ResearchContext) -> Proposal:
    x = value(context.n)
    return Proposal(f"X to {x}", context.source.replace("X = 3.0", f"X = {x}"))


def main(root: str, experiments: str, executor: str) -> int:
    def scripted(*_: object, **__: object) -> Agent:
        return ScriptedAgent(propose)

    setattr(launch, "make_agent", scripted)  # noqa: B010
    setattr(trainings, "ATTEMPTS", 1000)  # noqa: B010 - here a training may well be lost three times
    repository = Repository.discover(Path(root))
    flags = {
        "max_experiments": int(experiments),
        "max_crashes": 1000,
        "baseline_runs": 1,
        "ahead": 4,
        "executor": executor,
        "workers": 4,
        "slurm_gres": "gpu:1",
    }
    settings = config.load(repository, repository.head(), flags, os.environ)
    paths = RunPaths(repository.root, "t")
    return launch.run_engine(settings, paths, repository, headless=True, say=lambda record: None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

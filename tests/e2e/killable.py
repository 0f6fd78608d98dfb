"""An engine process that can be told at which journal record to die. Run by test_kills.py.

    python -m tests.e2e.killable REPOSITORY EXPERIMENTS [before|after COUNT]

Its agent proposes the same for the same number whenever it is asked, and a crash again unchanged: so a run
that was killed any number of times must end exactly as one that never was.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

from loop import config
from loop import events as ev
from loop.agents.base import Agent, Proposal, ResearchContext
from loop.paths import RunPaths
from loop.records.journal import Journal
from loop.records.repository import Repository
from loop.service import launch
from tests.loop.scripted import ScriptedAgent


def value(n: int) -> float:
    """Where experiment `n` puts X: closer to the best value 1.0 two times out of three."""
    return round(1 + 2 / (1 + n * (1.3 if n % 3 else 0.4)), 4)


def propose(context: ResearchContext) -> Proposal:
    x = value(context.n)
    return Proposal(f"X to {x}", re.sub(r"^X = .*$", f"X = {x}", context.source, flags=re.MULTILINE))


def die_at(when: str, count: int) -> None:
    """Kill this process before or after its `count`th journal record."""
    append, left = Journal.append, [count]

    def mortal(journal: Journal, event: ev.DurableEvent) -> ev.Record:
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        record = append(journal, event)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return record

    setattr(Journal, "append", mortal)  # noqa: B010 - a method cannot be assigned under strict types


def main(root: str, experiments: str, when: str = "", count: str = "0") -> int:
    if when:
        die_at(when, int(count))

    def scripted(*_: object, **__: object) -> Agent:
        return ScriptedAgent(propose)

    setattr(launch, "make_agent", scripted)  # noqa: B010
    repository = Repository.discover(Path(root))
    flags = {"max_experiments": int(experiments), "fix_attempts": 1000, "max_crashes": 1000}
    settings = config.load(repository, repository.head(), flags, {})
    paths = RunPaths(repository.root, "t")
    return launch.run_engine(settings, paths, repository, headless=True, say=lambda record: None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

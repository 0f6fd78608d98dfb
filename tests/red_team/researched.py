"""A real run that trains one cheat after the other, as if the audit had found nothing in them."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

import prepare
from loop.agents.base import Proposal
from loop.state import RunState
from tests.conftest import git
from tests.loop.scripted import Bench, ScriptedAgent
from tests.nanogpt import world
from tests.red_team.cheats import ROOT, Cheat, honest

DATA = f"sympy-v{prepare.FORMAT}"
ROWS = 96
"""Rows of held-out text: about as many probes as the smallest real data set gets."""


def research(folder: Path, cheats: Sequence[Cheat], *, steps: int, budget_s: float) -> RunState:
    """Let the engine train the honest train.py and then each cheat; returns the state at the end.

    Each trains for `steps` steps, or for `budget_s` seconds if that is 0, with the real trainer, fence and
    judge on a small data set of random tokens, in which there is nothing to learn but how frequent they are.
    """
    world.folder(folder / "cache" / DATA, ROWS, 12, 509, 256)
    root = repository(folder / "repo")
    agent = ScriptedAgent(lambda context: Proposal(cheats[context.n - 2].name, cheats[context.n - 2].source))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_DATA", "sympy")
        patch.setenv("AUTORESEARCH_CACHE", str(folder / "cache"))
        patch.setenv("AUTORESEARCH_MAX_STEPS", str(steps))
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        bench = Bench(
            root, agent, max_experiments=len(cheats) + 1, budget_s=budget_s, audit="report", rule="improved",
            baseline_runs=1, max_crashes=100, fix_attempts=0, combine=0, sandbox="require",
            timeout_s=budget_s + 30, stop_doomed=False,
        )  # fmt: skip
        asyncio.run(bench.run())
    return bench.engine.state


def repository(root: Path) -> Path:
    """A repository with the honest trainer of the tests."""
    shutil.copytree(ROOT / "nanogpt", root / "nanogpt", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "nanogpt/train.py").write_text(honest())
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x")
    return root


def check(cheat: Cheat, state: RunState, n: int) -> None:
    """Fail unless experiment `n` ended as its cheat says."""
    e = state.experiment(n)
    assert e.phase != "keep", f"{cheat.name} was kept: {e.reason}"
    ended = e.trainings[-1].finished
    assert ended is not None
    if cheat.fate == "honest":
        baseline = state.experiment(1)
        assert (e.phase, ended.verified) == ("discard", True), e.reason
        assert ended.value == pytest.approx(baseline.value, abs=1e-6), e.reason
        return
    assert e.phase == ("crash" if cheat.fate == "crash" else "discard"), e.reason
    assert re.search(cheat.reason, e.reason), e.reason

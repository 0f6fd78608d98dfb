"""Candidates in a real repository: committed, audited, carried over, and mended after a kill."""

from __future__ import annotations

import asyncio
from pathlib import Path

from loop import events as ev
from loop.agents.base import Proposal
from tests.conftest import TRAINER, git
from tests.loop.scripted import Bench, ScriptedAgent, keep_baseline


def bench(repository: Path) -> Bench:
    return Bench(repository, ScriptedAgent(), baseline_runs=1, rule="improved")


async def started(found: Bench) -> str:
    """Experiment 1 is the baseline; returns its commit."""
    await keep_baseline(found, logged=False)
    return found.engine.state.base


async def propose(found: Bench, n: int, line: str, new: str) -> str:
    """A committed candidate that replaces a line; returns its commit."""
    candidates, parent = found.engine._candidates, found.engine.state.incumbent_commit
    found.store.record(ev.ExperimentStarted(n, parent))
    source = candidates.read(parent).replace(line, new)
    made = await candidates.make(n, parent, Proposal(new, source, "why"))
    await candidates.commit(made)
    return made.event.commit


async def test_a_proposal_becomes_a_commit_that_only_changes_the_editable_file(repository: Path) -> None:
    found = bench(repository)
    base = await started(found)
    commit = await propose(found, 2, "X = 3.0", "X = 2.0")
    assert git(repository, "diff", "--stat", "--format=", base, commit).startswith("train.py | 2 +-")
    assert git(repository, "rev-parse", "refs/autoresearch/t/0002") == commit
    e = found.engine.state.experiment(2)
    assert (e.phase, e.description, e.hypothesis, e.added, e.removed) == ("queued", "X = 2.0", "why", 1, 1)
    found.close()


async def test_what_the_audit_refuses_is_a_candidate_that_is_rejected(repository: Path) -> None:
    found = bench(repository)
    await started(found)
    await propose(found, 2, "X = 3.0", "import socket\nX = 3.0")
    e = found.engine.state.experiment(2)
    assert e.phase == "rejected"
    assert "socket" in e.reason
    found.close()


async def test_a_human_may_do_what_an_agent_may_not(repository: Path) -> None:
    found = bench(repository)
    base = await started(found)
    proposal = Proposal("mine", "import socket\n" + TRAINER)
    made = await found.engine._candidates.make(2, base, proposal, author="human")
    assert made.event.refused == ""
    assert made.event.findings == ["line 1: imports socket"]
    found.close()


async def keep(found: Bench, n: int) -> None:
    e = found.engine.state.experiment(n)
    found.store.record(ev.Judged(n, "keep", e.commit, 5.0, 0.0, "better"))


async def test_a_candidate_is_merged_onto_a_newer_incumbent_and_keeps_its_place(repository: Path) -> None:
    found = bench(repository)
    await started(found)
    await propose(found, 2, "X = 3.0", "X = 2.0")
    await propose(found, 3, "STEPS = 4", "STEPS = 2")
    await propose(found, 4, "budget = float", "budget = 1 * float")
    await keep(found, 2)
    s = found.engine.state
    await found.engine._candidates.carry_over(s.experiment(3))
    merged = s.experiment(3)
    assert merged.parent == s.incumbent_commit
    source = git(repository, "show", f"{merged.commit}:train.py")
    assert "X = 2.0" in source
    assert "STEPS = 2" in source
    assert [e.n for e in s.queue] == [3, 4]
    found.close()


async def test_a_candidate_that_conflicts_is_proposed_again(repository: Path) -> None:
    found = bench(repository)
    await started(found)
    await propose(found, 2, "X = 3.0", "X = 2.0")
    await propose(found, 3, "X = 3.0", "X = 1.0")
    await keep(found, 2)
    s = found.engine.state
    await found.engine._candidates.carry_over(s.experiment(3))
    assert (s.experiment(3).phase, s.experiment(3).parent) == ("proposing", s.incumbent_commit)
    found.close()


async def test_a_candidate_rejected_while_it_is_carried_over_stays_rejected(repository: Path) -> None:
    found = bench(repository)
    await started(found)
    await propose(found, 2, "X = 3.0", "X = 2.0")
    await propose(found, 3, "STEPS = 4", "STEPS = 2")
    await keep(found, 2)
    carrying = asyncio.create_task(found.engine._candidates.carry_over(found.engine.state.experiment(3)))
    await asyncio.sleep(0)
    found.store.record(ev.Rejected(3, "not now"))
    await carrying
    assert found.engine.state.experiment(3).phase == "rejected"
    found.close()


async def test_a_ref_that_a_kill_left_behind_is_mended(repository: Path) -> None:
    found = bench(repository)
    await started(found)
    commit = await propose(found, 2, "X = 3.0", "X = 2.0")
    git(repository, "update-ref", "-d", "refs/autoresearch/t/0002")
    await found.engine._candidates.put_right()
    assert git(repository, "rev-parse", "refs/autoresearch/t/0002") == commit
    found.close()

"""Branch, note and row of a verdict: written together, any number of times, and never twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop import events as ev
from loop.errors import BranchMoved
from loop.records import results
from loop.records.verdict_log import VerdictLog, note_of
from tests.conftest import git
from tests.loop.scripted import Bench, ScriptedAgent, keep_baseline


async def judged(repository: Path) -> tuple[Bench, VerdictLog]:
    """A kept baseline whose verdict is not written yet."""
    bench = Bench(repository, ScriptedAgent())
    await keep_baseline(bench, logged=False)
    return bench, bench.engine._verdict_log


async def test_what_is_written_again_stays_as_it_is(repository: Path) -> None:
    bench, log = await judged(repository)
    for _ in range(3):
        await log.write(bench.engine.state.experiment(1))
    base = bench.engine.state.base
    assert results.lines(repository / "results.tsv")[1:] == [f"{base[:7]}\t6.000000\t0.5\tkeep\tbaseline"]
    assert git(repository, "rev-parse", "autoresearch/t") == base
    assert "status: keep" in git(repository, "notes", "--ref=autoresearch", "show", base)
    bench.close()


async def test_a_verdict_by_hand_replaces_its_row(repository: Path) -> None:
    bench, log = await judged(repository)
    e = bench.engine.state.experiment(1)
    await log.write(e)
    bench.store.record(ev.Logged(1))
    bench.store.record(ev.Overridden(1, "discard", "not this"))
    await log.write(e)
    assert [line.split("\t")[3] for line in results.lines(repository / "results.tsv")[1:]] == ["discard"]
    bench.close()


async def test_a_branch_moved_by_someone_else_is_left_alone(repository: Path) -> None:
    bench, log = await judged(repository)
    theirs = git(repository, "commit-tree", "-m", "theirs", "HEAD^{tree}")
    git(repository, "update-ref", "refs/heads/autoresearch/t", theirs)
    with pytest.raises(BranchMoved, match="put it back"):
        await log.write(bench.engine.state.experiment(1))
    assert git(repository, "rev-parse", "autoresearch/t") == theirs
    assert results.lines(repository / "results.tsv") == []
    bench.close()


async def test_the_note_tells_each_training(repository: Path) -> None:
    bench, _ = await judged(repository)
    words = note_of(bench.engine.state.experiment(1), bench.engine.state)
    assert "experiment: t #1\nval_bpb: 6.000000\nstatus: keep\nreason: baseline\n" in words
    assert "training 1: seed 1337, 6.000000, as printed" in words
    bench.close()

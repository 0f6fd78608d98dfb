"""Two things at once: a human's word while a step is under way, a full disk, a listener that fails."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest

from loop import agenda
from loop import engine as engine_module
from loop import events as ev
from loop.agents.base import Proposal, ResearchContext
from loop.service.commands import obey
from tests.conftest import git
from tests.loop.scripted import Bench, ScriptedAgent, keep_baseline, set_x, until


async def asked(repository: Path, step: type[agenda.Step], mode: bool = True) -> Bench:
    """An engine that has begun `step`, about the approval of experiment 2, but not yet run it."""
    bench = Bench(repository, ScriptedAgent(), approve=True)
    await keep_baseline(bench)
    await bench.engine.proposer.propose(2)
    if not mode:
        bench.store.record(ev.ApprovalRequested(2))
        await obey(bench.engine, ev.SetMode(False))
    [found] = [s for s in bench.engine._next() if isinstance(s, step)]
    bench.engine._begin(found)
    return bench


@pytest.mark.parametrize(
    ("step", "mode", "command", "phase"),
    [
        (agenda.AskApproval, True, ev.Reject("no", 2), "rejected"),
        (agenda.SkipApproval, False, ev.Reject("no", 2), "rejected"),
        (agenda.AskApproval, True, ev.Approve(2, first=True), "queued"),
    ],
)
async def test_the_human_s_word_stands_though_a_step_about_approval_was_under_way(
    repository: Path, step: type[agenda.Step], mode: bool, command: ev.Reject | ev.Approve, phase: str
) -> None:
    bench = await asked(repository, step, mode)
    await obey(bench.engine, command)
    await asyncio.sleep(0.05)
    found = bench.engine.state.experiment(2).phase
    bench.close()
    assert found == phase


async def test_a_training_that_another_seat_has_taken_meanwhile_is_left_to_it(repository: Path) -> None:
    """Both would follow it, and record its end twice: after a merge in between it would have no number."""
    bench = Bench(repository, ScriptedAgent(), budget_s=0.1)
    await keep_baseline(bench)
    await bench.engine.proposer.propose(2)
    commit = bench.engine.state.experiment(2).commit
    bench.store.record(ev.TrainingStarted(2, 1, commit, seed=1337, budget_s=0.1, seat=1))
    await bench.engine._train(agenda.Train(2, 1, 1337, seat=0))
    found = bench.events(ev.TrainingFinished)
    await bench.engine.executor.close()
    bench.close()
    assert [(event.n, event.training) for event in found] == [(1, 1)]


async def test_two_rows_at_once_leave_the_branch_on_the_incumbent(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent())
    await keep_baseline(bench)
    s = bench.engine.state

    async def kept(n: int, value: float) -> None:
        await bench.engine.proposer.propose(n)
        commit = s.experiment(n).commit
        bench.store.record(ev.TrainingStarted(n, 1, commit, seed=1337, budget_s=1.0))
        bench.store.record(ev.TrainingFinished(n, 1, "finished", value=value))
        bench.store.record(ev.Judged(n, "keep", commit, value, 0.5, "better", delta=-1.0))

    with (repository / ".autoresearch/results.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await kept(2, 5.0)
        bench.engine._begin(agenda.WriteRow(2))
        await asyncio.sleep(0.7)  # longer than a writer waits before it puts the row off
        await kept(3, 4.0)
        bench.store.record(ev.RerunAsked(3))  # something to train, so that the row need not wait
        steps = bench.engine._next()
        assert agenda.WriteRow(3) in steps
        for step in steps:
            if isinstance(step, agenda.WriteRow) and step.key not in bench.engine._tasks:
                bench.engine._begin(step)
        await asyncio.sleep(0.05)
    await until(lambda: not s.rows_due)
    at, incumbent = git(repository, "rev-parse", "autoresearch/t"), s.incumbent_commit
    bench.close()
    assert at == incumbent


async def test_an_edited_combination_still_says_what_it_combines(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), approve=True)
    await keep_baseline(bench)
    s = bench.engine.state
    combined = Proposal("combine", "X = 2.0\n")
    made = await bench.engine._candidates.make(2, s.base, combined, author="engine", combines=[7, 8])
    bench.store.record(ev.ExperimentStarted(2, s.base))
    await bench.engine._candidates.commit(made)
    bench.store.record(ev.ApprovalRequested(2))
    await obey(bench.engine, ev.Edit(2, "X = 1.5\n"))
    combines = s.experiment(2).combines
    bench.close()
    assert combines == [7, 8]


async def test_a_refused_repair_is_paid_for(repository: Path) -> None:
    usage = ev.Usage(output_tokens=10, dollars=1.0)
    agent = ScriptedAgent(lambda _: Proposal("cheat", "import os\nos._exit(0)\n", usage=usage))
    bench = Bench(repository, agent)
    await keep_baseline(bench)
    s = bench.engine.state
    bench.store.record(ev.ExperimentStarted(2, s.base))
    made = await bench.engine._candidates.make(2, s.base, Proposal("x", "X = oops\n"))
    await bench.engine._candidates.commit(made)
    bench.store.record(ev.TrainingStarted(2, 1, made.event.commit, seed=1337, budget_s=1.0))
    bench.store.record(ev.TrainingFinished(2, 1, "crashed", "it broke"))
    await bench.engine.proposer.repair(2, "it broke")
    refused, spent = s.experiment(2).no_repair, s.usage.dollars
    bench.close()
    assert refused
    assert spent == 1.0


async def test_a_listener_that_fails_does_not_end_the_run(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=2)

    def say(record: ev.Record) -> None:  # what printing to a terminal that is gone does
        if bench.engine.state.rows >= 1:
            raise OSError(5, "Input/output error")

    bench.store.listen(say)
    assert await bench.run() == "limit reached: 2 experiments"


async def test_a_full_disk_does_not_pay_for_a_proposal_without_counting_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "RETRY_S", 0.05)

    def script(context: ResearchContext) -> Proposal:
        proposal = set_x(context)
        usage = ev.Usage(dollars=1.0, output_tokens=1)
        return Proposal(proposal.description, proposal.source, proposal.hypothesis, usage=usage)

    agent = ScriptedAgent(script)
    bench = Bench(repository, agent, max_experiments=2, baseline_runs=1)
    append = bench.store._journal.append
    failed: list[ev.CandidateCommitted] = []

    def full(event: ev.DurableEvent) -> ev.Record:
        if isinstance(event, ev.CandidateCommitted) and event.n == 2 and len(failed) < 3:
            failed.append(event)
            raise OSError(28, "No space left on device")
        return append(event)

    monkeypatch.setattr(bench.store._journal, "append", full)
    await bench.run()
    assert len(failed) == 3
    assert bench.engine.state.usage.dollars == len([c for c in agent.contexts if c.n == 2])

"""The steps that end in a candidate: what is recorded when agents propose, fail, repair and give up."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from loop import events as ev
from loop.agenda import Answer
from loop.agents.base import AgentFailed, AgentStopped, Emit, OutOfMoney, Proposal, ResearchContext
from loop.agents.team import Team
from loop.proposing.proposer import AGENT_PATIENCE
from loop.service import commands
from loop.state import fold
from tests.loop.scripted import Bench, Script, ScriptedAgent, keep_baseline, set_x

COST = ev.Usage(input_tokens=1000, output_tokens=10, dollars=0.5)


async def baseline(repository: Path, script: Script = set_x, approve: bool = False) -> Bench:
    """An engine that does not run by itself, whose baseline is kept."""
    bench = Bench(repository, ScriptedAgent(script), baseline_runs=1, rule="improved", approve=approve)
    await keep_baseline(bench, logged=False)
    return bench


async def crashed(repository: Path, script: Script) -> Bench:
    """Experiment 2 has crashed."""
    bench = await baseline(repository, script)
    await bench.engine.proposer.propose(2)
    commit = bench.engine.state.experiment(2).commit
    bench.store.record(ev.TrainingStarted(2, 1, commit, seed=1337, budget_s=1.0))
    bench.store.record(ev.TrainingFinished(2, 1, "crashed", "NameError"))
    return bench


async def test_a_proposal_is_recorded_from_its_start_to_its_commit(repository: Path) -> None:
    bench = await baseline(repository)
    await bench.engine.proposer.propose(2)
    kinds = [type(record.event).__name__ for record in bench.records if record.seq][-2:]
    assert kinds == ["ExperimentStarted", "CandidateCommitted"]
    assert bench.engine.state.experiment(2).description == "X to 2.5"
    bench.close()


async def test_a_proposal_asked_for_again_after_a_kill_is_not_started_twice(repository: Path) -> None:
    bench = await baseline(repository)
    bench.store.record(ev.ExperimentStarted(2, bench.engine.state.incumbent_commit))
    await bench.engine.proposer.propose(2)
    assert len([e for e in bench.events(ev.ExperimentStarted) if e.n == 2]) == 1
    bench.close()


async def test_failures_cost_what_they_cost_and_a_few_in_a_row_pause_the_run(repository: Path) -> None:
    def script(context: ResearchContext) -> Proposal:
        raise AgentFailed("nothing left to try", COST)

    bench = await baseline(repository, script)
    for failed in range(1, AGENT_PATIENCE + 1):
        assert bench.engine.state.paused is None
        await bench.engine.proposer.propose(2)
        assert bench.engine.state.usage.dollars == 0.5 * failed
    words = f"the agent gave no proposal {AGENT_PATIENCE} times in a row: nothing left to try"
    assert bench.engine.state.paused == words
    bench.close()


async def test_an_agent_that_needs_a_human_pauses_the_run_at_once(repository: Path) -> None:
    def script(context: ResearchContext) -> Proposal:
        raise AgentStopped("no credit left")

    bench = await baseline(repository, script)
    await bench.engine.proposer.propose(2)
    assert bench.engine.state.paused == "no credit left"
    assert bench.engine.state.experiment(2).phase == "proposing"
    bench.close()


@pytest.mark.parametrize("headless", [True, False])
async def test_money_that_does_not_pay_for_a_request_is_a_limit_that_is_reached(
    repository: Path, headless: bool
) -> None:
    def script(context: ResearchContext) -> Proposal:
        raise OutOfMoney("spending limit: too little is left", COST)

    bench = await baseline(repository, script)
    bench.engine.rules = replace(bench.engine.rules, stop_at_limit=headless)
    await bench.engine.proposer.propose(2)
    state = bench.engine.state
    assert (state.stopping if headless else state.paused) == "spending limit: too little is left"
    assert state.usage.dollars == 0.5
    bench.close()


async def test_a_candidate_that_is_given_up_while_it_is_announced_is_proposed_anew(repository: Path) -> None:
    """The incumbent changes in the moment in which the candidate's commit is kept. The old candidate is not
    announced, and paid for, a second time."""

    def script(context: ResearchContext) -> Proposal:
        proposal = set_x(context) if not again else Proposal("another", f"{context.source}Z = 1\n")
        return replace(proposal, usage=COST)

    again: list[bool] = []
    bench = await baseline(repository, script)
    state = bench.engine.state

    def give_up(record: ev.Record) -> None:
        if isinstance(record.event, ev.CandidateCommitted) and record.event.description == "X to 2.5":
            bench.store.record(ev.ExperimentStarted(2, state.incumbent_commit, "it changes the same lines"))

    bench.store.listen(give_up)
    await bench.engine.proposer.propose(2)
    assert (state.experiment(2).phase, state.usage.dollars) == ("proposing", 0.5)
    again.append(True)
    await bench.engine.proposer.propose(2)
    assert (state.experiment(2).description, state.usage.dollars) == ("another", 1.0)
    bench.close()


async def test_a_repair_is_a_new_commit_of_the_same_experiment(repository: Path) -> None:
    def script(context: ResearchContext) -> Proposal:
        if context.failure:
            assert (context.failure.attempt, context.failure.reason) == (1, "NameError")
            return Proposal("mended", context.source.replace("X = 3.0", "X = 1.0"))
        return Proposal("broken", context.source.replace("X = 3.0", "X = oops"))

    bench = await crashed(repository, script)
    before = bench.engine.state.experiment(2).commit
    await bench.engine.proposer.repair(2, "NameError")
    e = bench.engine.state.experiment(2)
    assert (e.phase, e.description) == ("queued", "mended")
    assert e.commit != before
    bench.close()


@pytest.mark.parametrize("refused", [True, False])
async def test_a_crash_without_a_repair_is_given_up(repository: Path, refused: bool) -> None:
    def script(context: ResearchContext) -> Proposal:
        if context.failure and not refused:
            raise AgentFailed("no idea")
        if context.failure:
            return Proposal("cheats", "import socket\n" + context.source)
        return Proposal("broken", context.source.replace("X = 3.0", "X = oops"))

    bench = await crashed(repository, script)
    await bench.engine.proposer.repair(2, "NameError")
    assert bench.engine.state.experiment(2).no_repair
    assert bench.engine.state.experiment(2).phase == "judging"
    bench.close()


async def test_a_repair_that_comes_after_the_verdict_changes_nothing(repository: Path) -> None:
    bench = await crashed(repository, set_x)
    e = bench.engine.state.experiment(2)
    bench.store.record(ev.Judged(2, "crash", e.commit, None, 0.0, "NameError"))
    await bench.engine.proposer.repair(2, "NameError")
    assert bench.engine.state.experiment(2).phase == "crash"
    bench.close()


async def test_a_human_replaces_only_a_candidate_that_waits(repository: Path) -> None:
    bench = await baseline(repository, approve=True)
    await bench.engine.proposer.propose(2)
    e = bench.engine.state.experiment(2)
    bench.store.record(ev.ApprovalRequested(2))
    assert await bench.engine.proposer.replace(e, "X = 1.5\n")
    assert (e.author, e.description) == ("human", "X to 2.5")
    bench.store.record(ev.Rejected(2, "no"))
    assert not await bench.engine.proposer.replace(e, "X = 1.4\n")
    assert e.phase == "rejected"
    bench.close()


async def test_what_was_spent_is_counted_although_the_disk_was_full_when_it_was_known(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is spent before that."""
    asked: list[int] = []

    def script(context: ResearchContext) -> Proposal:
        asked.append(context.n)
        raise AgentFailed("no idea", ev.Usage(dollars=0.5))

    bench = await baseline(repository, script)
    state, append = bench.engine.state, bench.store._journal.append

    def full(event: ev.DurableEvent) -> ev.Record:
        if isinstance(event, ev.Spent):
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(event)

    with monkeypatch.context() as patch:
        patch.setattr(bench.store._journal, "append", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                await bench.engine.proposer.propose(2)
    assert (asked, state.usage.dollars) == ([2], None)
    await bench.engine.proposer.propose(2)
    assert (asked, state.usage.dollars) == ([2, 2], 1.0)
    bench.close()


async def test_a_transcript_that_cannot_be_written_keeps_no_money_from_being_counted(
    repository: Path,
) -> None:
    def script(context: ResearchContext) -> Proposal:
        path = bench.paths.transcript(2)
        path.unlink()
        path.mkdir()  # cannot be opened to be written to
        raise AgentFailed("no idea", ev.Usage(dollars=0.5))

    bench = await baseline(repository, script)
    await bench.engine.proposer.propose(2)
    assert bench.engine.state.usage.dollars == 0.5
    bench.close()


async def test_several_agents_share_a_run_and_the_quick_one_fills_the_seat(repository: Path) -> None:
    """The slow one needs longer for one proposal than the whole run takes."""
    slow, quick = ScriptedAgent(delay_s=60.0), ScriptedAgent()
    slow.name, quick.name = "claude", "search"
    flags: dict[str, Any] = {"agents": ["claude", "search"], "rule": "improved", "budget_s": 0.05}
    bench = Bench(repository, Team([slow, quick]), baseline_runs=1, **flags)
    running = asyncio.create_task(bench.engine.run())
    await asyncio.wait_for(bench.store.until(lambda s: s.rows == 3), 60)
    bench.engine.stop("that is enough", now=True)
    await running
    state = bench.engine.state
    assert [e.agent for e in state.experiments if e.judged] == ["", "search", "search"]
    assert state.experiment(2).agent == "claude"
    assert state.experiment(2).phase == "proposing"
    said = [e.text for e in bench.events(ev.AgentDelta) if e.kind == "note"]
    assert "claude works this out; shares by gain per GPU hour: claude 50%, search 50%" in said
    bench.close()


class Answering(ScriptedAgent):
    """Answers every question the same way."""

    async def answer(self, context: ResearchContext, question: str, emit: Emit) -> ev.Usage:
        if "money" in question:
            raise AgentFailed("no idea")
        emit(ev.AgentDelta(context.n, "text", f"about #{context.n}: because", id="a"))
        return COST


async def test_a_question_gets_an_answer_and_no_experiment(repository: Path) -> None:
    bench = Bench(repository, Answering(), baseline_runs=1, rule="improved")
    await keep_baseline(bench, logged=False)
    state = bench.engine.state
    for question in ("Why is it better?", "Where is the money?"):
        told = await commands.obey(bench.engine, ev.Steer(question))
        assert told == "the agent answers in the transcript"
    assert state.steering == []
    for step in [step for step in bench.engine._next() if isinstance(step, Answer)]:
        await bench.engine.proposer.answer(step.n)
    assert state.questions == []
    assert len(state.experiments) == 1
    said = [(e.kind, e.text) for e in bench.events(ev.AgentDelta)]
    assert said == [
        ("human", "Why is it better?"), ("text", "about #1: because"),
        ("human", "Where is the money?"), ("error", "no idea"),
    ]  # fmt: skip
    assert state.usage.dollars == 0.5
    again = fold(record for record in bench.records if record.seq)
    assert (again.questions, again.usage) == (state.questions, state.usage)
    bench.close()


async def test_an_agent_without_answers_hears_a_question_as_a_message(repository: Path) -> None:
    bench = await baseline(repository)
    await commands.obey(bench.engine, ev.Steer("Why is it better?"))
    assert [message.text for message in bench.engine.state.steering] == ["Why is it better?"]
    bench.close()

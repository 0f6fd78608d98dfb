"""Several seats in the loop: real processes, real git, one after another and at the same time."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from loop import events as ev
from loop.agents.base import Proposal, ResearchContext
from loop.records import results
from loop.service import commands
from tests.conftest import git
from tests.loop.scripted import Bench, ScriptedAgent, until

FLAGS: dict[str, Any] = {"rule": "improved", "budget_s": 0.3, "baseline_runs": 1}


def line(context: ResearchContext) -> Proposal:
    """Experiment n changes a line of its own; every second one is better."""
    gain = 0.01 * context.n if context.n % 2 == 0 else -0.01
    source = context.source.replace("STEPS = 4\n", f"STEPS = 4\nGAIN_{context.n} = {gain}\n\n\n\n")
    return Proposal(f"gain {gain}", source)


def most_at_once(bench: Bench) -> int:
    """How many trainings ran at the same time, at most."""
    now = most = 0
    for record in bench.records:
        now += isinstance(record.event, ev.TrainingStarted)
        now -= isinstance(record.event, ev.TrainingFinished)
        most = max(most, now)
    return most


async def test_keeps_of_a_fleet_are_one_chain_and_every_experiment_has_one_row(repository: Path) -> None:
    trainer = (repository / "train.py").read_text()
    value = "1 + (X - 1) ** 2 - sum(v for k, v in list(globals().items()) if k.startswith('GAIN_'))"
    (repository / "train.py").write_text(re.sub(r"\{1 \+ .*?:\.6f\}", f"{{{value}:.6f}}", trainer))
    git(repository, "commit", "-qam", "gains")
    bench = Bench(repository, ScriptedAgent(line), max_experiments=9, workers=3, proposers=2, **FLAGS)
    await bench.run()
    s = bench.engine.state
    assert most_at_once(bench) == 3
    assert results.read(repository / "results.tsv").height == s.rows == 9
    assert len(s.baseline_trainings) == 3
    kept = [e for e in s.experiments if e.phase == "keep"]
    assert len(kept) > 2
    for e in kept[1:]:
        judged = next(j for j in bench.events(ev.Judged) if j.n == e.n)
        assert judged.incumbent == e.parent == git(repository, "rev-parse", f"{e.commit}^")
    branch = git(repository, "log", "--format=%H", "autoresearch/t").splitlines()
    assert {e.commit for e in kept} <= set(branch)
    assert branch[0] == s.incumbent_commit
    assert git(repository, "fsck", "--no-dangling") == ""


async def test_an_engine_with_fewer_seats_follows_all_trainings_of_one_with_more(repository: Path) -> None:
    flags = {**FLAGS, "max_experiments": 5, "budget_s": 0.6}
    first = Bench(repository, ScriptedAgent(), workers=3, proposers=3, **flags)
    running = asyncio.create_task(first.run())
    state = first.engine.state
    await until(lambda: len([t for t in state.under_way if t.n > 1]) == 3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    second = Bench(repository, ScriptedAgent(), **flags)
    before = [(t.n, t.seat) for t in second.engine.state.under_way]
    assert len(before) == 3
    await second.run()
    s = second.engine.state
    assert s.rows == 5
    assert all(e.judged for e in s.experiments)
    assert results.read(repository / "results.tsv").height == 5


async def test_one_training_of_several_can_be_stopped(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=3, workers=2, **{**FLAGS, "budget_s": 1.0})
    running = asyncio.create_task(bench.run())
    s = bench.engine.state
    await until(lambda: len(s.under_way) == 2 and all(v.progress for v in s.live.seats.values()))
    said = await commands.obey(bench.engine, ev.StopTraining("too many", n=1, training=2))
    assert said == "stopping the training of experiment 1"
    await running
    outcomes = [t.outcome for t in s.experiment(1).trainings]
    assert (outcomes, s.experiment(1).phase) == (["finished", "stopped"], "keep")


async def test_messages_reach_every_conversation_that_goes_on_and_are_taken_up_once(repository: Path) -> None:
    agent = ScriptedAgent(delay_s=0.4)
    bench = Bench(repository, agent, max_experiments=5, workers=2, proposers=2, **FLAGS)
    running = asyncio.create_task(bench.run())
    s = bench.engine.state
    await until(lambda: s.experiments)
    await commands.obey(bench.engine, ev.Steer("be bold"))
    await until(lambda: len(agent.contexts) >= 2)
    await running
    assert [context.steering for context in agent.contexts[:2]] == [["be bold"], ["be bold"]]
    assert all("be bold" not in context.steering for context in agent.contexts[4:])
    assert [m.text for m in s.steering] == []


async def test_two_conversations_with_the_same_idea_make_one_candidate(repository: Path) -> None:
    def same_at_first(context: ResearchContext) -> Proposal:
        tried = any("X = 2.5" in context.archive.source(e.n) for e in context.experiments if e.commit)
        value = 2.5 if not tried else 3 - context.n / 7
        return Proposal(f"X to {value}", re.sub(r"(?m)^X = .*$", f"X = {value}", context.source))

    agent = ScriptedAgent(same_at_first, delay_s=0.2)
    bench = Bench(repository, agent, max_experiments=4, workers=2, proposers=2, **FLAGS)
    await bench.run()
    sources = [bench.engine.archive.source(e.n) for e in bench.engine.state.experiments]
    assert len(set(sources)) == len(sources) == 4
    said = [delta.text for delta in bench.events(ev.AgentDelta) if delta.kind == "error"]
    assert any("is the same program, proposed meanwhile" in text for text in said)


async def test_all_conversations_together_stay_within_what_is_left_to_spend(repository: Path) -> None:
    def script(context: ResearchContext) -> Proposal:
        source = context.source.replace("STEPS = 4", f"STEPS = 4  # {context.n}\nA_{context.n} = 1")
        return Proposal(f"idea {context.n}", source, usage=ev.Usage(dollars=0.01))

    agent = ScriptedAgent(script, delay_s=0.2)
    bench = Bench(repository, agent, max_experiments=5, max_cost=1.0, workers=3, proposers=3, **FLAGS)
    await bench.run()
    granted = [context.dollars_left for context in agent.contexts]
    assert granted[0] is not None
    assert granted[0] == 1 / 3
    assert sum(dollars for dollars in granted[:3] if dollars) <= 1.0

"""The loop as a whole, on real git repositories and real training processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from loop import events as ev
from loop.agents.base import AgentFailed, AgentStopped, Emit, Proposal, ResearchContext
from loop.records import journal, results
from loop.service import commands
from loop.state import fold
from loop.training.local import LocalExecutor
from tests.conftest import git
from tests.loop.scripted import Bench, ScriptedAgent, set_x, until


async def test_four_experiments_leave_four_rows_and_an_untouched_checkout(repository: Path) -> None:
    head, index = git(repository, "rev-parse", "HEAD"), (repository / ".git/index").read_bytes()
    bench = Bench(repository, ScriptedAgent(), max_experiments=4)
    assert await bench.run() == "limit reached: 4 experiments"
    frame = results.read(repository / "results.tsv")
    assert frame["status"].to_list() == ["keep"] * 4
    assert frame["val_bpb"].to_list() == sorted(frame["val_bpb"].to_list(), reverse=True)
    assert frame["memory_gb"].to_list() == [0.5] * 4
    assert git(repository, "rev-parse", "autoresearch/t")[:7] == frame["commit"][-1]
    refs = git(repository, "for-each-ref", "--format=%(refname:lstrip=3)", "refs/autoresearch/t/").split()
    assert [ref for ref in refs if "-" not in ref] == [f"{n:04d}" for n in (1, 2, 3, 4)]
    assert git(repository, "status", "--porcelain") == "?? results.tsv"
    assert (git(repository, "rev-parse", "HEAD"), (repository / ".git/index").read_bytes()) == (head, index)
    git(repository, "fsck", "--strict")
    assert "status: keep" in git(repository, "notes", "--ref=autoresearch", "show", "autoresearch/t")


async def test_a_worse_candidate_is_discarded_and_stays_reachable(repository: Path) -> None:
    worse = ScriptedAgent(lambda c: Proposal("worse", c.source.replace("X = 3.0", f"X = {3.0 + c.n}")))
    bench = Bench(repository, worse, max_experiments=3)
    await bench.run()
    assert results.read(repository / "results.tsv")["status"].to_list() == ["keep", "discard", "discard"]
    assert git(repository, "rev-parse", "autoresearch/t") == git(repository, "rev-parse", "HEAD")
    assert "X = 5.0" in git(repository, "show", "refs/autoresearch/t/0002:train.py")


async def test_the_next_candidate_is_ready_before_the_run_ends(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=3)
    await bench.run()
    kinds = [(type(r.event).__name__, getattr(r.event, "n", 0)) for r in bench.records if r.seq]
    assert kinds.index(("CandidateCommitted", 3)) < kinds.index(("TrainingFinished", 2))


async def test_a_candidate_made_before_a_keep_is_merged_onto_it(repository: Path) -> None:
    def script(context: ResearchContext) -> Proposal:
        line, value = ("X = 3.0", "X = 2.5") if context.n == 2 else ("STEPS = 4", "STEPS = 2")
        return Proposal(value, context.source.replace(line, value))

    bench = Bench(repository, ScriptedAgent(script), max_experiments=3)
    await bench.run()
    third = bench.engine.state.experiment(3)
    assert third.parent == bench.engine.state.experiment(2).commit
    source = git(repository, "show", "refs/autoresearch/t/0003:train.py")
    assert "X = 2.5" in source
    assert "STEPS = 2" in source


async def test_a_candidate_that_conflicts_with_a_keep_is_proposed_again(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(set_x), max_experiments=3)
    await bench.run()
    again = [e for e in bench.events(ev.ExperimentStarted) if e.why]
    assert [(e.n, e.why) for e in again] == [(3, "it changes the same lines as the new incumbent")]
    assert [e.phase for e in bench.engine.state.experiments] == ["keep"] * 3
    assert bench.engine.state.experiment(3).parent == bench.engine.state.experiment(2).commit


async def test_a_crash_goes_back_to_the_agent_and_ends_as_one_row(repository: Path) -> None:
    def script(context: ResearchContext) -> Proposal:
        if context.failure is None:
            return Proposal("break it", context.source.replace("X = 3.0", "X = undefined"))
        assert "NameError" in context.failure.log_tail
        fix = "X = 2.0" if context.failure.attempt == 2 else "X = still_undefined"
        return Proposal("break it, repaired", context.source.replace("X = 3.0", fix))

    bench = Bench(repository, ScriptedAgent(script), max_experiments=2)
    await bench.run()
    frame = results.read(repository / "results.tsv")
    assert frame["status"].to_list() == ["keep", "keep"]
    assert len(bench.engine.state.experiment(2).trainings) == 3


async def test_a_crash_nobody_repairs_is_logged_with_its_reason(repository: Path) -> None:
    agent = ScriptedAgent(lambda c: Proposal("break it", c.source.replace("X = 3.0", f"X = oops{c.n}")))
    bench = Bench(repository, agent, max_experiments=2, fix_attempts=0)
    await bench.run()
    assert results.lines(repository / "results.tsv")[-1].split("\t")[1:4] == ["0.000000", "0.0", "crash"]
    assert "NameError" in bench.engine.state.experiment(2).reason


async def test_a_failing_baseline_ends_the_run_with_its_reason(repository: Path) -> None:
    (repository / "train.py").write_text("raise SystemExit('no data')\n")
    git(repository, "commit", "-qam", "broken")
    reason = await Bench(repository, ScriptedAgent(), max_experiments=3).run()
    assert reason == "the baseline gave no val_bpb: no data (exit code 1)"


async def test_approval_rejection_and_steering_reach_the_agent(repository: Path) -> None:
    agent = ScriptedAgent()
    bench = Bench(repository, agent, max_experiments=3, approve=True)
    running = asyncio.create_task(bench.run())
    state = bench.engine.state
    await until(lambda: state.waiting)
    await commands.obey(bench.engine, ev.Steer("try the optimizer"))
    await commands.obey(bench.engine, ev.Reject("too timid"))
    await until(lambda: state.waiting and state.waiting.n == 3)
    assert agent.contexts[1].steering == ["try the optimizer", "Experiment 2 was rejected: too timid"]
    assert state.steering == []
    await commands.obey(bench.engine, ev.Approve())
    await until(lambda: state.waiting and state.waiting.n == 4)
    await commands.obey(bench.engine, ev.SetMode(False))
    await running
    assert [e.phase for e in state.experiments] == ["keep", "rejected", "keep", "keep"]


async def test_stopping_a_run_discards_it_and_the_loop_goes_on(repository: Path) -> None:
    (repository / "autoresearch.toml").write_text(
        'train_command = ["{python}", "train.py"]\neditable = ["train.py"]\nbudget_s = 1.0\n'
    )
    bench = Bench(repository, ScriptedAgent(), max_experiments=3)
    running = asyncio.create_task(bench.run())
    state = bench.engine.state
    await until(lambda: state.training and state.training.n == 2 and state.seat.progress)
    await commands.obey(bench.engine, ev.StopTraining("looks bad"))
    await running
    assert [e.phase for e in state.experiments if e.judged][:3] == ["keep", "discard", "keep"]
    assert state.experiment(2).reason == "looks bad"


async def test_an_agent_that_needs_a_human_pauses_the_engine(repository: Path) -> None:
    broken = True

    def script(context: ResearchContext) -> Proposal:
        if broken:
            raise AgentStopped("no credit left: add some, then resume")
        return set_x(context)

    bench = Bench(repository, ScriptedAgent(script), max_experiments=2)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.paused)
    assert bench.engine.state.paused == "no credit left: add some, then resume"
    await until(lambda: bench.engine.state.incumbent)
    broken = False
    await commands.obey(bench.engine, ev.Resume())
    assert await running == "limit reached: 2 experiments"


async def test_an_engine_that_nobody_looks_at_ends_where_an_agent_needs_a_human(repository: Path) -> None:
    """It would wait for ever, on a machine that is paid for."""

    def script(context: ResearchContext) -> Proposal:
        raise AgentStopped("no credit left: add some, then resume")

    bench = Bench(repository, ScriptedAgent(script), max_experiments=2, baseline_runs=1, unattended=True)
    assert await bench.run() == "no credit left: add some, then resume"
    assert bench.engine.failed
    assert bench.engine.state.paused is None
    assert bench.engine.state.experiment(1).logged, "what was under way has ended"


async def test_an_agent_that_only_fails_pauses_the_engine(repository: Path) -> None:
    def script(context: ResearchContext) -> Proposal:
        raise AgentFailed("nothing left to try")

    bench = Bench(repository, ScriptedAgent(script), max_experiments=2)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.paused and not bench.engine.state.training)
    assert "nothing left to try" in (bench.engine.state.paused or "")
    bench.engine.stop("enough", now=True)
    assert await running == "enough"


async def test_a_verdict_changed_by_hand_moves_branch_and_row(repository: Path) -> None:
    agent = ScriptedAgent(lambda c: Proposal("worse", c.source.replace("X = 3.0", f"X = {3.0 + c.n}")))
    bench = Bench(repository, agent, max_experiments=3)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.rows == 2 and bench.engine.state.experiment(2).logged)
    await commands.obey(bench.engine, ev.Override(2, "keep", "I like it"))
    await running
    frame = results.read(repository / "results.tsv")
    assert frame["status"].to_list()[:2] == ["keep", "keep"]
    assert frame.height == 3


async def test_a_doomed_run_is_stopped_early_and_logged_as_such(repository: Path) -> None:
    nan = "print('\\n'.join(f'step {i} ({i}%) | loss: nan' for i in range(5)), flush=True)\ntime.sleep(60)\n"
    agent = ScriptedAgent(lambda c: Proposal("diverges", c.source.replace("X = 3.0", nan + "X = 3.0")))
    bench = Bench(repository, agent, max_experiments=2, baseline_runs=1)
    await bench.run()
    second = bench.engine.state.experiment(2)
    assert (second.phase, second.reason) == ("discard", "stopped early: its loss is not finite")
    assert second.trainings[0].outcome == "doomed"


def other_lines(context: ResearchContext, x: str = "2.5") -> Proposal:
    """Experiment 2 changes X, experiment 3 something further down: they can be merged."""
    line, new = ("X = 3.0", f"X = {x}") if context.n == 2 else ("(Y - 1) ** 2", "(Y - 1) ** 2 / 2")
    return Proposal(new, context.source.replace(line, new))


async def test_while_a_crash_is_repaired_the_next_candidate_trains(repository: Path) -> None:
    repairing, trained = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedAgent):
        async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
            if context.failure:
                repairing.set()
                await trained.wait()
                return Proposal("repaired", context.source.replace("X = 3.0", "X = 2.0"))
            return other_lines(context, x="oops")

    bench = Bench(repository, Slow(), max_experiments=3, rule="improved", baseline_runs=1, budget_s=0.5)
    running = asyncio.create_task(bench.run())
    await until(repairing.is_set)
    await until(lambda: bench.engine.state.experiments[2:] and bench.engine.state.experiment(3).judged)
    trained.set()
    await running
    assert [e.phase for e in bench.engine.state.experiments] == ["keep", "keep", "keep"]
    assert bench.engine.state.experiment(2).parent == bench.engine.state.experiment(3).commit


async def test_rows_are_written_while_the_next_one_trains(repository: Path) -> None:
    agent = ScriptedAgent(other_lines)
    bench = Bench(repository, agent, max_experiments=3, rule="improved", baseline_runs=1)
    await bench.run()
    kinds = [(type(r.event).__name__, getattr(r.event, "n", 0)) for r in bench.records if r.seq]
    order = [
        kinds.index(k)
        for k in (("Judged", 2), ("TrainingStarted", 3), ("Logged", 2), ("TrainingFinished", 3))
    ]
    assert order == sorted(order)
    assert [line.split("\t")[3] for line in results.lines(repository / "results.tsv")[1:]] == ["keep"] * 3


async def test_a_killed_standby_costs_nothing(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=3, rule="improved", baseline_runs=1)
    running = asyncio.create_task(bench.run())
    assert isinstance(bench.engine.executor, LocalExecutor)
    seat = bench.engine.executor._seats[0]
    await until(lambda: seat.standby)
    standby = seat.standby
    assert standby is not None
    standby._process.kill()
    await running
    assert [e.phase for e in bench.engine.state.experiments] == ["keep"] * 3
    assert all(len(e.trainings) == 1 for e in bench.engine.state.experiments)


async def test_waiting_candidates_are_a_queue_that_a_human_orders(repository: Path) -> None:
    script = ScriptedAgent(lambda c: Proposal(f"n{c.n}", f"{c.source}# {c.n}\n"))
    bench = Bench(
        repository, script, max_experiments=3, approve=True, ahead=3, rule="improved", baseline_runs=1
    )
    running, state = asyncio.create_task(bench.run()), bench.engine.state
    await until(lambda: [e.n for e in state.experiments if e.phase == "waiting"] == [2, 3])
    await commands.obey(bench.engine, ev.Pause())
    await commands.obey(bench.engine, ev.Approve(3))
    await commands.obey(bench.engine, ev.Approve(2))
    await commands.obey(bench.engine, ev.Resume())
    await running
    assert [e.n for e in bench.events(ev.TrainingStarted)] == [1, 3, 2]


async def test_any_waiting_candidate_can_be_rejected(repository: Path) -> None:
    script = ScriptedAgent(lambda c: Proposal(f"n{c.n}", f"{c.source}# {c.n}\n"))
    bench = Bench(repository, script, max_experiments=3, approve=True, ahead=2, baseline_runs=1)
    running, state = asyncio.create_task(bench.run()), bench.engine.state
    await until(lambda: [e.n for e in state.experiments if e.phase == "waiting"] == [2, 3])
    await commands.obey(bench.engine, ev.Reject("no", 3))
    await until(lambda: len(state.experiments) == 4 and state.experiment(4).phase == "waiting")
    assert script.contexts[-1].steering == ["Experiment 3 was rejected: no"]
    await commands.obey(bench.engine, ev.SetMode(False))
    await running
    assert [e.phase for e in state.experiments] == ["keep", "discard", "rejected", "discard"]


async def test_the_queue_can_be_turned_round_and_thinned(repository: Path) -> None:
    script = ScriptedAgent(lambda c: Proposal(f"n{c.n}", f"{c.source}# {c.n}\n"))
    bench = Bench(
        repository, script, max_experiments=3, approve=True, ahead=3, rule="improved", baseline_runs=1
    )
    running, state = asyncio.create_task(bench.run()), bench.engine.state
    await until(lambda: [e.n for e in state.experiments if e.phase == "waiting"] == [2, 3])
    await commands.obey(bench.engine, ev.Pause())
    await until(lambda: not state.under_way)
    for command in (ev.Approve(2), ev.Approve(3), ev.Approve(3, first=True)):
        await commands.obey(bench.engine, command)
    assert [e.n for e in state.queue] == [3, 2]
    await commands.obey(bench.engine, ev.Reject("not now", 2))
    assert [e.n for e in state.queue] == [3]
    await commands.obey(bench.engine, ev.Resume())
    await until(lambda: len(state.experiments) == 4 and state.experiment(4).phase == "waiting")
    await commands.obey(bench.engine, ev.SetMode(False))
    await running
    assert [e.n for e in bench.events(ev.TrainingStarted)] == [1, 3, 4]
    assert fold(journal.read(bench.paths.journal)).experiment(2).phase == "rejected"


class Editing(ScriptedAgent):
    """Shows a half-finished edit, as tools do, before it proposes."""

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        draft = context.source + "import socket\n"
        emit(ev.CandidateEdited(context.n, context.path, context.source, draft))
        return await super().propose(context, emit)


async def test_an_edit_is_shown_with_what_the_audit_says_of_it(repository: Path) -> None:
    bench = Bench(repository, Editing(), max_experiments=2, baseline_runs=1)
    await bench.run()
    draft = next(e for e in bench.events(ev.CandidateEdited) if e.after.endswith("import socket\n"))
    assert len(draft.findings) == 1
    assert "socket" in draft.findings[0]


async def test_what_a_run_keeps_is_for_its_user_alone(repository: Path) -> None:
    """But for the exported trees, whose modes are git's, in a folder that nobody else may enter."""
    bench = Bench(repository, ScriptedAgent(), max_experiments=2)
    await bench.run()
    home = repository / ".autoresearch"
    open_to_others = [
        str(path.relative_to(home))
        for path in (home, *home.rglob("*"))
        if path.lstat().st_mode & 0o077 and not path.is_dir() and "slots" not in path.parts
    ]
    assert open_to_others == [".gitignore"]
    assert home.stat().st_mode & 0o077 == 0

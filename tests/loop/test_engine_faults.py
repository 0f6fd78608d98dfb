"""Disks that refuse, files edited by hand, branches moved: the loop says so, waits, and loses nothing."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from loop import engine
from loop import events as ev
from loop.agents.base import Proposal, ResearchContext
from loop.records import results
from loop.service import commands
from tests.conftest import git
from tests.loop.scripted import Bench, ScriptedAgent, set_x, until


async def test_a_full_disk_is_waited_out_and_nothing_is_lost(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RETRY_S", 0.05)
    bench = Bench(repository, ScriptedAgent(), max_experiments=4)
    real, full = os.fsync, False

    def fsync(fd: int) -> None:
        if full:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.rows == 2)
    full = True
    await until(lambda: len(bench.events(ev.Notice)) > 3)
    assert "No space left on device; trying again every 0.05 s" in bench.events(ev.Notice)[-1].text
    full = False
    assert await running == "limit reached: 4 experiments"
    assert results.read(repository / "results.tsv").height == 4
    git(repository, "fsck", "--strict")


async def test_a_ledger_that_cannot_be_written_is_waited_for(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RETRY_S", 0.05)
    ledger = repository / "results.tsv"
    bench = Bench(repository, ScriptedAgent(), max_experiments=2)
    ledger.mkdir()  # at the start that would be refused
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.events(ev.Notice))
    assert f"{ledger}: no plain file" in bench.events(ev.Notice)[0].text
    ledger.rmdir()
    await running
    assert results.read(ledger).height == 2


async def test_a_ledger_deleted_or_edited_by_hand_is_gone_on_with(repository: Path) -> None:
    ledger = repository / "results.tsv"
    bench = Bench(repository, ScriptedAgent(), max_experiments=4)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.rows == 1 and bench.engine.state.experiment(1).logged)
    ledger.unlink()
    await until(lambda: bench.engine.state.rows == 2 and bench.engine.state.experiment(2).logged)
    edited = ledger.read_text() + "mine\t1.0\t0.0\tkeep\tby hand \xe9\u2028same row\n"
    ledger.write_text(edited)
    await running
    assert ledger.read_text().startswith(edited)
    assert [line.split("\t")[0] for line in results.lines(ledger)][2] == "mine"
    assert len(results.lines(ledger)) == 1 + 1 + 1 + 2


async def test_a_branch_moved_by_someone_pauses_until_it_is_put_back(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=4)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.rows == 2 and bench.engine.state.experiment(2).logged)
    where = git(repository, "rev-parse", "autoresearch/t")
    theirs = git(repository, "commit-tree", "-m", "theirs", f"{where}^{{tree}}")
    git(repository, "update-ref", "refs/heads/autoresearch/t", theirs)
    await until(lambda: bench.engine.state.paused)
    assert "put it back, or start another --tag" in (bench.engine.state.paused or "")
    assert git(repository, "rev-parse", "autoresearch/t") == theirs
    git(repository, "update-ref", "refs/heads/autoresearch/t", where)
    await commands.obey(bench.engine, ev.Resume())
    await running
    assert results.read(repository / "results.tsv").height == 4


async def test_a_branch_moved_by_someone_ends_an_engine_that_nobody_looks_at(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=4, unattended=True)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.rows == 2 and bench.engine.state.experiment(2).logged)
    theirs = git(repository, "commit-tree", "-m", "theirs", "autoresearch/t^{tree}")
    git(repository, "update-ref", "refs/heads/autoresearch/t", theirs)
    assert "put it back, or start another --tag" in await asyncio.wait_for(running, 20)
    assert bench.engine.failed


async def test_the_user_may_change_branch_commit_and_collect_garbage_meanwhile(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=5)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.rows == 1)
    await asyncio.to_thread(git, repository, "checkout", "-q", "-b", "other")
    (repository / "train.py").write_text("raise SystemExit('not this one')\n")
    await asyncio.to_thread(git, repository, "commit", "-qam", "theirs")
    await asyncio.to_thread(git, repository, "gc", "-q")
    await running
    assert results.read(repository / "results.tsv")["status"].to_list() == ["keep"] * 5
    assert git(repository, "branch", "--show-current") == "other"
    git(repository, "fsck", "--strict")


async def test_a_clock_that_jumps_back_or_ahead_changes_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    real, jump = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    bench = Bench(repository, ScriptedAgent(), max_experiments=4, timeout_s=5.0)
    running = asyncio.create_task(bench.run())
    for rows, jump in ((1, -86400.0), (2, 86400.0 * 365)):  # noqa: B007 - the lambda reads `jump`
        await until(lambda: bench.engine.state.rows >= rows)  # noqa: B023 - awaited before it changes
    await running
    assert [e.phase for e in bench.engine.state.experiments] == ["keep"] * 4


@pytest.mark.parametrize("error", [ValueError("no such field"), KeyError("text"), RecursionError()])
async def test_an_agent_that_breaks_is_an_attempt_that_failed(repository: Path, error: Exception) -> None:
    def script(context: ResearchContext) -> Proposal:
        if context.n == 2 and len(agent.contexts) == 1:
            raise error
        return set_x(context)

    agent = ScriptedAgent(script)
    bench = Bench(repository, agent, max_experiments=2)
    assert await bench.run() == "limit reached: 2 experiments"
    said = [e.text for e in bench.events(ev.AgentDelta) if e.kind == "error"]
    assert said == [f"agent scripted failed: {error!r}"]


async def test_what_an_agent_writes_is_made_fit_for_git_and_terminal(repository: Path) -> None:
    def script(context: ResearchContext) -> Proposal:
        return Proposal("a\x1b[31m\n\tb \ud800", context.source + "# \ud800\n", "why\x07 not \ud800")

    bench = Bench(repository, ScriptedAgent(script), max_experiments=2)
    await bench.run()
    second = bench.engine.state.experiment(2)
    assert (second.description, second.hypothesis) == ("a b", "why not ")
    assert git(repository, "show", f"{second.commit}:train.py").endswith("# ?")


@pytest.mark.parametrize(
    "printed",
    ["mfu_percent: nan", "depth: inf", "step 1 (..%) | loss: 1", "x: \ud800", "val_bpb: 1e999\nval_bpb: 1"],
)
async def test_whatever_a_trainer_prints_the_journal_can_be_read_again(
    repository: Path, printed: str
) -> None:
    source = (repository / "train.py").read_text()
    (repository / "train.py").write_text(
        f"import sys\n{source}sys.stdout.buffer.write({printed!r}.encode('utf-8', 'surrogatepass'))\n"
    )
    git(repository, "commit", "-qam", "odd")
    assert await Bench(repository, ScriptedAgent(), max_experiments=2).run() == "limit reached: 2 experiments"
    again = Bench(repository, ScriptedAgent(), max_experiments=2)
    assert again.engine.state.rows == 2
    again.close()


async def test_a_waiting_candidate_is_trained_when_the_next_engine_asks_for_no_approval(
    repository: Path,
) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=2, approve=True)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.waiting and bench.engine.state.rows == 1)
    bench.engine.stop("enough", now=True)
    await running
    again = Bench(repository, ScriptedAgent(), max_experiments=2)
    assert await again.run() == "limit reached: 2 experiments"


async def test_a_result_of_an_earlier_idea_is_not_taken_for_the_new_one(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=2)
    folder = bench.paths.training(2, 1)
    folder.mkdir(parents=True)
    (folder / "exit.json").write_text(
        '{"outcome":"finished","reason":"","exit_code":0,"started":0,"ended":1}'
    )
    (folder / "run.log").write_text("---\nval_bpb: 0.000001\n")
    await bench.run()
    assert bench.engine.state.experiment(2).value == pytest.approx(1 + 1.5**2 + 1)


async def test_a_lock_on_the_ledger_stops_the_rows_and_nothing_else(repository: Path) -> None:
    """The lock goes only when this test lets it go: an event loop that stood still would wait for ever."""
    bench = Bench(repository, ScriptedAgent(), max_experiments=4, rule="improved", baseline_runs=1)
    with (repository / ".autoresearch/results.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = asyncio.create_task(bench.run())
        await until(lambda: bench.engine.state.rows == 2)
        assert await commands.obey(bench.engine, ev.Steer("still there?"))
        assert results.lines(repository / "results.tsv") == []
    await running
    assert results.read(repository / "results.tsv").height == 4


async def test_a_lock_on_the_branch_stops_the_rows_and_nothing_else(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent(), max_experiments=4, rule="improved", baseline_runs=1)
    lock = repository / ".git/refs/heads/autoresearch/t.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    running = asyncio.create_task(bench.run())

    def young() -> int:
        lock.touch()  # an old one would be taken for what a killed process left
        return bench.engine.state.rows

    await until(lambda: young() == 2)
    assert await commands.obey(bench.engine, ev.Steer("still there?"))
    assert results.lines(repository / "results.tsv") == []
    lock.unlink()
    await running
    assert results.read(repository / "results.tsv").height == 4


@pytest.mark.parametrize(
    "trick",
    [
        "os.mkfifo(result)",
        "os.symlink('/dev/zero', result)",
        "open(result, 'wb').truncate(40 * 2**30)",
        "os.mkdir(result); os.chmod(result, 0)",
    ],
)
async def test_whatever_a_training_leaves_in_the_place_of_its_model_the_loop_goes_on(
    repository: Path, trick: str
) -> None:
    leave = f"result = os.environ['AUTORESEARCH_MODEL_FILE']\n{trick}\nX = 3.0"
    agent = ScriptedAgent(lambda c: Proposal("leaves something", c.source.replace("X = 3.0", leave)))
    bench = Bench(repository, agent, max_experiments=2, baseline_runs=1, rule="improved", audit="report")
    assert await bench.run() == "limit reached: 2 experiments"
    again = Bench(repository, ScriptedAgent(), max_experiments=3, baseline_runs=1, rule="improved")
    assert await again.run() == "limit reached: 3 experiments"
    assert results.read(repository / "results.tsv").height == 3


async def test_a_flood_of_progress_does_not_fill_the_disk(repository: Path) -> None:
    flood = "for i in range(200_000): print(f'step {i}|')\nX = 3.0"
    agent = ScriptedAgent(lambda c: Proposal("floods", c.source.replace("X = 3.0", flood)))
    bench = Bench(repository, agent, max_experiments=2, baseline_runs=1, rule="improved", budget_s=1.0)
    await bench.run()
    folder = bench.paths.training(2, 1)
    assert (folder / "run.log").stat().st_size > 2_000_000
    assert (folder / "metrics.jsonl").stat().st_size < 1_000_000

"""Rule `confirmed` in the loop: reruns of candidate and incumbent, on real processes and real git."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from loop import events as ev
from loop.agents.base import Proposal, ResearchContext
from loop.records import journal, results
from loop.service import commands
from loop.state import fold
from tests.conftest import git, make_repository
from tests.loop.scripted import Bench, ScriptedAgent, until

NOISY = '''\
"""val_bpb falls with GAIN; another seed moves it by 0.001 on average."""
import os
import random

GAIN = 0.0

noise = random.Random(f"{os.environ['AUTORESEARCH_SEED']}/{GAIN}").gauss(0, 0.001)
print("---")
print(f"val_bpb: {1 - GAIN + noise:.6f}")
print("peak_vram_mb: 1024")
'''


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    # A run takes longer than its budget: none ends so early that it is doubted.
    return make_repository(tmp_path / "repo", NOISY, "budget_s = 0.001\n")


def gains(*values: float) -> ScriptedAgent:
    """Experiment 2, 3, ... raises GAIN by these."""

    def script(context: ResearchContext) -> Proposal:
        line = next(text for text in context.source.splitlines() if text.startswith("GAIN"))
        gain = float(line.split()[-1]) + values[context.n - 2]
        return Proposal(f"gain {gain:.4f}", context.source.replace(line, f"GAIN = {gain}"))

    return ScriptedAgent(script)


def training(bench: Bench) -> list[tuple[int, int]]:
    """Experiment and number of every training that was started, in order."""
    return [(e.n, e.training) for e in bench.events(ev.TrainingStarted)]


async def test_a_clear_win_and_a_clear_loss_take_one_run(noisy: Path) -> None:
    bench = Bench(noisy, gains(0.3, -0.2), max_experiments=3)
    await bench.run()
    assert training(bench) == [(1, 1), (1, 2), (2, 1), (3, 1)]
    assert [e.phase for e in bench.engine.state.experiments] == ["keep", "keep", "discard"]
    second = bench.engine.state.experiment(2)
    assert second.evidence.startswith("better by 0.3 (")
    assert second.evidence.endswith("chance that it truly helps over 99%")
    assert second.stderr is not None


async def test_a_win_within_the_noise_is_run_again_in_turn_and_one_row_is_written(noisy: Path) -> None:
    bench = Bench(noisy, gains(0.004), max_experiments=2, baseline_runs=2)
    await bench.run()
    state = bench.engine.state
    runs = training(bench)
    assert runs[:4] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert len(set(runs)) == len(runs)
    seeds = [run.seed for run in state.experiment(2).trainings]
    assert len(set(seeds)) == len(seeds)
    frame = results.read(noisy / "results.tsv")
    assert frame.height == 2
    for row, e in zip(frame["val_bpb"].to_list(), state.experiments, strict=True):
        assert row == pytest.approx(sum(e.values) / len(e.values), abs=1e-6)
    note = git(noisy, "notes", "--ref=autoresearch", "show", state.experiment(2).commit)
    assert "evidence: " in note
    assert f"training 2: seed {seeds[1]}, " in note
    assert all(run.commit == state.experiment(2).commit for run in state.experiment(2).trainings)


async def test_a_trainer_without_noise_needs_no_second_run(repository: Path) -> None:
    def script(context: ResearchContext) -> Proposal:
        return Proposal("a hair better", context.source.replace("X = 3.0", "X = 2.9999"))

    bench = Bench(repository, ScriptedAgent(script), max_experiments=2, budget_s=0.05)
    await bench.run()
    assert training(bench) == [(1, 1), (1, 2), (2, 1)]
    assert bench.engine.state.experiment(2).phase == "keep"
    assert bench.engine.state.experiment(2).evidence == "no noise: trainings repeat exactly"


async def test_rule_improved_takes_any_gain(noisy: Path) -> None:
    bench = Bench(noisy, gains(0.0025, 0.0005), max_experiments=3, rule="improved", baseline_runs=1)
    await bench.run()
    assert training(bench) == [(1, 1), (2, 1), (3, 1)]
    assert [e.phase for e in bench.engine.state.experiments] == ["keep"] * 3


async def test_a_human_may_ask_for_one_more_run(noisy: Path) -> None:
    bench = Bench(noisy, gains(0.3, 0.3), max_experiments=3, baseline_runs=1)
    running = asyncio.create_task(bench.run())
    state = bench.engine.state
    await until(lambda: state.rows == 1 and state.experiment(1).logged)
    await commands.obey(bench.engine, ev.RunAgain(1))
    await running
    assert [run.number for run in state.experiment(1).trainings] == [1, 2]
    rows = results.read(noisy / "results.tsv")["val_bpb"].to_list()
    assert rows[0] == pytest.approx(sum(state.experiment(1).values) / 2, abs=1e-6)
    assert state.baseline == state.experiment(1).value


class Killed(Exception):
    pass


async def test_killed_after_any_decision_it_ends_as_if_undisturbed(noisy: Path) -> None:
    """The engine dies right after each journal record of a run with reruns in it, one after the other."""
    whole = Bench(noisy, gains(0.004), tag="whole", max_experiments=2)
    await whole.run()
    expected = [told(e) for e in whole.engine.state.experiments]
    length = sum(1 for r in whole.records if r.seq)
    assert length >= 20
    for record in range(4, length, 3):
        tag = f"k{record}"
        bench = Bench(noisy, gains(0.004), tag=tag, max_experiments=2)
        kill_at(bench, record)
        with pytest.raises(Killed):
            await bench.run()
        again = Bench(noisy, gains(0.004), tag=tag, max_experiments=2)
        await again.run()
        state = fold(journal.read(again.paths.journal))
        assert [told(e) for e in state.experiments] == expected, record
        assert all(e.logged for e in state.experiments)
        assert git(noisy, "rev-parse", f"autoresearch/{tag}") == state.incumbent_commit
    # One baseline and one candidate for every run, and no row twice.
    assert results.read(noisy / "results.tsv").height == 2 * (1 + len(range(4, length, 3)))


def told(e: Any) -> tuple[Any, ...]:
    return e.n, e.phase, e.value, e.evidence, [(run.number, run.seed, run.value) for run in e.trainings]


def kill_at(bench: Bench, count: int) -> None:
    """Let the journal's `count`-th record be the engine's last act."""
    append = bench.store._journal.append

    def append_and_die(event: ev.DurableEvent) -> ev.Record:
        record = append(event)
        if record.seq >= count:
            raise Killed
        return record

    bench.store._journal.append = append_and_die  # type: ignore[method-assign]

"""Models in the loop: saved by each training, thinned with each verdict, and harmless whatever they are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loop import events as ev
from loop.agents.base import Proposal, ResearchContext
from loop.service import commands
from tests.conftest import TRAINER, make_repository
from tests.loop.scripted import Bench, ScriptedAgent, until

SAVING = (
    TRAINER
    + """
with open(os.environ["AUTORESEARCH_MODEL_FILE"], "w") as file:
    file.write(f"X = {X}")
"""
)
SETTINGS = 'budget_s = 0.1\nrule = "improved"\nbaseline_runs = 1\n'
XS = {2: 2.0, 3: 2.9, 4: 1.8, 5: 1.6, 6: 1.0}
"""What each experiment sets X to; the best is 1. Experiment 3 is worse than 2 and is discarded."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return make_repository(tmp_path / "repo", SAVING, SETTINGS)


def script(context: ResearchContext) -> Proposal:
    before = next(line for line in context.source.splitlines() if line.startswith("X = "))
    return Proposal(f"try {context.n}", context.source.replace(before, f"X = {XS[context.n]}"))


def models(bench: Bench) -> dict[str, str]:
    """Every model on disk: the number of its experiment, and what is in it."""
    return {path.parts[-4]: path.read_text() for path in bench.paths.folder.rglob("model.pt")}


async def test_a_night_leaves_the_models_of_the_incumbent_and_of_the_best_keeps(root: Path) -> None:
    bench = Bench(root, ScriptedAgent(script), max_experiments=6, keep_models=2)
    await bench.run()
    assert [e.phase for e in bench.engine.state.experiments] == ["keep", "keep", "discard", *["keep"] * 3]
    assert models(bench) == {"0004": "X = 1.8", "0005": "X = 1.6", "0006": "X = 1.0"}
    assert bench.engine.state.models == [(4, 1), (5, 1), (6, 1)]
    assert [event.model_bytes for event in bench.events(ev.TrainingFinished)] == [7] * 6


async def test_without_room_for_others_only_the_incumbents_model_stays(root: Path) -> None:
    bench = Bench(root, ScriptedAgent(script), max_experiments=5, keep_models=0)
    await bench.run()
    assert models(bench) == {"0005": "X = 1.6"}


async def test_a_verdict_by_hand_takes_its_model_away(root: Path) -> None:
    first = Bench(root, ScriptedAgent(script), max_experiments=2)
    await first.run()
    bench = Bench(root, ScriptedAgent(script))
    running = asyncio.create_task(bench.run())
    await commands.obey(bench.engine, ev.Pause())
    await commands.obey(bench.engine, ev.Override(2, "discard", "not this"))
    await until(lambda: bench.engine.state.experiment(2).logged)
    assert "0002" not in models(bench)
    assert bench.engine.state.incumbent == 1
    assert models(bench)["0001"] == "X = 3.0"
    bench.engine.stop("enough", now=True)
    await running


HOSTILE = {
    "a pipe": "import tempfile\nos.mkfifo(MODEL)",
    "a link": "os.symlink(__file__, MODEL)",
    "a folder": "os.makedirs(MODEL + '/a/b')",
    "40 GB of nothing": "os.truncate(os.open(MODEL, os.O_CREAT | os.O_WRONLY), 40 * 2**30)",
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_nothing_in_the_place_of_a_model_holds_the_loop_up(what: str, root: Path) -> None:
    def hostile(context: ResearchContext) -> Proposal:
        change = f"MODEL = os.environ['AUTORESEARCH_MODEL_FILE']\n{HOSTILE[what]}\n"
        source = context.source.partition("\nwith open(")[0].replace("X = 3.0", "X = 2.0")
        return Proposal(what, source + "\n" + change)

    bench = Bench(root, ScriptedAgent(hostile), max_experiments=2, audit="report", fix_attempts=0)
    await asyncio.wait_for(bench.run(), 60)
    second = bench.engine.state.experiment(2)
    assert (second.phase, bench.engine.state.incumbent) == ("keep", 2)
    assert second.trainings[0].finished
    assert second.trainings[0].finished.model_bytes == 0
    assert bench.engine.state.models == [(1, 1)]

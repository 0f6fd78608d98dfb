"""A sealed result in the loop: who gets to know the hidden number and the nonce, and what is not believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loop import events as ev
from loop.agents import prompt
from loop.agents.api.toolbox import Toolbox
from loop.agents.base import Emit, Proposal, ResearchContext
from loop.agents.checks import Tried
from loop.records import journal, results
from loop.state import fold
from tests.conftest import git, make_repository
from tests.loop.agents.world import Heard
from tests.loop.scripted import Bench, ScriptedAgent

SEALED = '''\
"""Hands its number over as nanogpt/prepare.py does."""
import json
import os

X = 3.0
HIDDEN = 7.654321
OTHER = {}

result = {"nonce": os.environ["AUTORESEARCH_NONCE"], "val_bpb": X / 3, "hidden_bpb": HIDDEN, "data": "d"}
with open(os.environ["AUTORESEARCH_RESULT"], "w") as file:
    json.dump({**result, **OTHER}, file)
print(f"---\\nval_bpb: {X / 3:.6f}")
'''


async def test_the_hidden_number_is_journaled_and_told_to_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = make_repository(tmp_path / "repo", SEALED, "budget_s = 5\nbaseline_runs = 1\n")
    prompts: list[str] = []

    class Reading(ScriptedAgent):
        """Reads all that an agent can read before it proposes."""

        async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
            heard = Heard()
            tools = Toolbox(context, heard, Tried())
            prompts.append(repr(prompt.build(context)))
            prompts.append(await tools.call("read_experiment", {"experiment": 1}, "a"))
            prompts.append(await tools.call("read_log", {"experiment": 1}, "b"))
            prompts.extend(delta.text for delta in heard.deltas)
            return Proposal("lower", context.source.replace("X = 3.0", f"X = {3 - context.n / 8}"))

    bench = Bench(root, Reading(), max_experiments=3, audit="report")
    await bench.run()
    state = fold(journal.read(bench.paths.journal))
    ends = [t.finished for e in state.experiments for t in e.trainings]
    assert [ended and ended.hidden for ended in ends] == [7.654321] * 3
    assert all(ended and ended.verified for ended in ends)
    outside = [
        *prompts,
        (root / "results.tsv").read_text(),
        git(root, "notes", "--ref=autoresearch", "show", state.experiment(2).commit),
        *(path.read_text() for path in bench.paths.folder.rglob("transcript.jsonl")),
        *(path.read_text() for path in bench.paths.folder.rglob("run.log")),
    ]
    assert len(prompts) >= 6
    assert not [text for text in outside if "7.654321" in text.replace("HIDDEN = 7.654321", "")]


async def test_the_nonce_is_on_no_disk_before_the_result_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = make_repository(tmp_path / "repo", SEALED, "budget_s = 5\n")
    bench = Bench(root, ScriptedAgent(), max_experiments=1, baseline_runs=1)
    await bench.run()
    (result,) = bench.paths.folder.rglob("result.json")
    nonce = json.loads(result.read_text())["nonce"]
    assert len(nonce) == 32
    found = [
        path
        for path in bench.paths.folder.rglob("*")
        if path.is_file() and nonce.encode() in path.read_bytes()
    ]
    assert found == [result]


async def test_a_printed_number_without_proof_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = make_repository(tmp_path / "repo", SEALED, "budget_s = 5\nbaseline_runs = 1\n")

    def script(context: ResearchContext) -> Proposal:
        return Proposal(
            "forge",
            context.source.replace("OTHER = {}", 'OTHER = {"nonce": "0"}').replace("X = 3.0", "X = 1.0"),
        )

    bench = Bench(root, ScriptedAgent(script), max_experiments=2, audit="report", fix_attempts=0)
    await bench.run()
    second = bench.engine.state.experiment(2)
    assert second.phase == "crash"
    assert second.reason.startswith("unverified: val_bpb was printed")
    assert results.read(root / "results.tsv")["val_bpb"].to_list() == [1.0, None]
    assert bench.events(ev.TrainingFinished)[-1].verified is False

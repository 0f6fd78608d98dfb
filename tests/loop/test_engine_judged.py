"""A judge in the loop: who gets to know the hidden number, what is believed, and what is not done twice."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from loop import events as ev
from loop.agents import prompt
from loop.agents.api.toolbox import Toolbox
from loop.agents.base import Emit, Proposal, ResearchContext
from loop.agents.checks import Tried
from loop.records import journal, results
from loop.records.training_folder import TrainingFolder
from loop.state import fold
from loop.training import supervisor
from tests.conftest import git
from tests.loop.agents.world import Heard
from tests.loop.judged import ANSWERS, JUDGE, TRAINER, make_judged
from tests.loop.scripted import Bench, ScriptedAgent, until

RUNTIME = "XDG_RUNTIME_DIR"


def changed(what: str, old: str, new: str) -> ScriptedAgent:
    """An agent that always replaces the same words of the trainer."""
    return ScriptedAgent(lambda context: Proposal(what, context.source.replace(old, new)))


async def test_the_hidden_number_is_journaled_and_told_to_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    root = make_judged(tmp_path / "repo")
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
    assert all(ended and ended.verified and ended.probes == 1 and ended.used_seconds for ended in ends)
    outside = [
        *prompts,
        (root / "results.tsv").read_text(),
        git(root, "notes", "--ref=autoresearch", "show", state.experiment(2).commit),
        *(path.read_text() for path in bench.paths.folder.rglob("transcript.jsonl")),
        *(path.read_text() for path in bench.paths.folder.rglob("run.log")),
    ]
    assert len(prompts) >= 6
    assert not [text for text in outside if "7.654321" in text]


async def test_what_a_trainer_prints_or_leaves_is_not_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    root = make_judged(tmp_path / "repo")
    forge = """print("---\\nval_bpb: 0.1")
folder = os.path.dirname(os.environ["AUTORESEARCH_MODEL_FILE"])
for name in ("judged.json", "result.json"):
    open(f"{folder}/{name}", "w").write('{"val_bpb": 0.1}')
"""
    agent = changed("forge", "print(", forge + "print(")
    bench = Bench(root, agent, max_experiments=2, audit="report", rule="improved")
    await bench.run()
    second = bench.engine.state.experiment(2)
    assert (second.phase, second.value) == ("discard", 1.0)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("os._exit(0)", "it saved no model: call evaluate(model, data, clock) at the end"),
        ("file.write('no number')\nfile.flush()\nos._exit(0)", "refused by the judge: it says no number"),
    ],
)
async def test_what_the_judge_does_not_measure_is_a_crash_that_the_agent_may_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: str, reason: str
) -> None:
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    check = "report = {}\nif not claimed[:1].isdigit():\n    report['refused'] = 'it says ' + claimed\nelif"
    judge = JUDGE.replace('report = {"data": "d", "probes": 1}\nif', check).replace('"failed"', '"data"', 1)
    root = make_judged(tmp_path / "repo", judge=judge)
    agent = changed("breaks", "file.write(repr(X))", new.replace("\n", "\n    "))
    bench = Bench(root, agent, max_experiments=2, audit="report", fix_attempts=0)
    await bench.run()
    second = bench.engine.state.experiment(2)
    assert (second.phase, second.reason) == ("crash", reason)
    assert results.read(root / "results.tsv")["val_bpb"].to_list() == [1.0, None]


async def test_a_number_that_nobody_measured_is_not_kept_where_the_baseline_had_a_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    root = make_judged(tmp_path / "repo")
    bench = Bench(root, ScriptedAgent(), max_experiments=1)
    await bench.run()
    (root / "autoresearch.toml").write_text(
        'train_command = ["{python}", "train.py"]\neditable = ["train.py"]\nbudget_s = 5\n'
    )
    agent = changed("prints", "print(", "print('---\\nval_bpb: 0.1')  #")
    again = Bench(root, agent, max_experiments=2, audit="report", fix_attempts=0)
    await again.run()
    second = again.engine.state.experiment(2)
    assert second.phase == "crash"
    assert second.reason == "unverified: val_bpb was printed, but the judge did not measure it"


async def test_the_judge_compares_with_what_the_incumbent_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    root = make_judged(tmp_path / "repo")
    told = JUDGE.replace("def ask", "print('reference', options.reference)\n\n\ndef ask")
    (root / "judge.py").write_text(told.replace("7.654321", "float(claimed)"))
    git(root, "commit", "-qam", "a judge that tells")
    bench = Bench(root, ScriptedAgent(), max_experiments=3, audit="report", rule="improved")
    await bench.run()
    assert [e.phase for e in bench.engine.state.experiments] == ["keep"] * 3
    logs = [(bench.paths.training(n, 1) / "run.log").read_text() for n in (1, 2, 3)]
    claims = [bench.paths.training(n, 1) / "judge" / "claims.npy" for n in (1, 2)]
    assert "reference None" in logs[0]
    assert [f"reference {path}" in log for path, log in zip(claims, logs[1:], strict=True)] == [True, True]


async def test_a_judgement_that_was_killed_is_made_again_without_training_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    count = tmp_path / "trained"
    slow = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
    root = make_judged(
        tmp_path / "repo",
        trainer=TRAINER.replace("X = 3.0", f"X = 3.0\nopen({str(count)!r}, 'a').write('x')"),
        answers=slow + ANSWERS,
    )
    bench = Bench(root, ScriptedAgent(), max_experiments=1, sandbox="off")
    running = asyncio.create_task(bench.run())
    files = bench.paths.training(1, 1)
    await until(lambda: (files / "judge.log").exists())
    found = supervisor.find(TrainingFolder(files))
    assert found
    os.kill(found.pid, signal.SIGKILL)
    await until(lambda: bench.events(ev.TrainingLost))
    (tmp_path / "go").touch()
    await running
    assert bench.engine.state.experiment(1).value == 1.0
    assert count.read_text() == "x"

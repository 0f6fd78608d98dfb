"""About thirty ways to cheat (cheats.py): the engine keeps none of them.

Each is audited, and then trained all the same, as if the audit had missed it, with the real trainer and the
real evaluation on very little data. The result goes through the engine's own accounting and verdict.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import prepare
from loop import events as ev
from loop.agents.base import Proposal
from loop.judging import audit, trust, verdict
from loop.judging.rules import Rules
from loop.judging.verdict import Verdict
from loop.records.training_folder import Spec, TrainingFolder, proof_of
from loop.state import Experiment, RunState, Training
from loop.training import outcome
from loop.training.executor import Job
from tests.conftest import git
from tests.loop.scripted import Bench, ScriptedAgent
from tests.nanogpt import world
from tests.red_team.cheats import CHEATS, ROOT, Cheat, honest

pytestmark = pytest.mark.timeout(900)  # one fixture runs everything
SHORT_S, LONG_S = 0.3, 60.0
"""Budgets in seconds: of the cheats with time, and of the others, which end after a number of steps."""
BASELINE = Cheat("nothing", "no effect", "", "import math\n", "")


def budget_s(cheat: Cheat) -> float:
    return SHORT_S if cheat.timed else LONG_S


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ev.TrainingFinished]:
    """How the training of each cheat ended, by the cheat's name, as the engine accounts for it."""
    base = tmp_path_factory.mktemp("red")
    name = f"sympy-v{prepare.FORMAT}"
    world.folder(base / "cache" / name, 12, 12, 509, 256)
    world.folder(base / "cache/easy", 12, 12, 509, 256, tokens=2)
    jobs, cheats = [], [BASELINE, *CHEATS]
    for i, cheat in enumerate(cheats):
        files = TrainingFolder(base / str(i))
        files.reset()
        slot = base / f"slot-{i}"
        slot.mkdir()
        for path in (ROOT / "nanogpt").glob("*.py"):
            shutil.copy(path, slot)
        (slot / "train.py").write_text(cheat.source)
        nonce = f"secret-{i}"
        environment = {
            "AUTORESEARCH_CACHE": str(base / "cache"),
            "AUTORESEARCH_BUDGET_S": str(budget_s(cheat)),
            "AUTORESEARCH_MAX_STEPS": "0" if cheat.timed else "8",
            "AUTORESEARCH_SEED": "1337",
            "AUTORESEARCH_RESULT": str(files.result),
            "AUTORESEARCH_NONCE": nonce,
        }
        spec = Spec([], "", {}, "", "", "", 60.0, commit=str(i), proof=proof_of(nonce))
        files.spec.write_bytes(msgspec.json.encode(spec))
        jobs.append({"script": str(slot / "train.py"), "env": environment, "log": str(files.log)})
    (base / "jobs.json").write_text(json.dumps(jobs))
    subprocess.run([sys.executable, ROOT / "tests/red_team/forks.py", base / "jobs.json"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "OVER_S", 1.0)  # the real one suits budgets of minutes
        return {cheat.name: accounted(base / str(i), cheat) for i, cheat in enumerate(cheats)}


def accounted(folder: Path, cheat: Cheat) -> ev.TrainingFinished:
    """Account for the training in this folder as the engine does."""
    files = TrainingFolder(folder)
    ended = files.read_exit(folder.name)
    assert ended is not None
    job = Job("k", 2, 1, folder.name, 1337, budget_s(cheat), 0, files, "train.py")
    return outcome.finished(job, ended, "val_bpb")


def judged(baseline: ev.TrainingFinished, finished: ev.TrainingFinished, budget_s: float = LONG_S) -> Verdict:
    """Return the engine's verdict on a training that follows this baseline."""
    first = _experiment(1, "keep", "a" * 40, baseline, budget_s)
    second = _experiment(2, "judging", "b" * 40, finished, budget_s)
    state = RunState(tag="t", base="a" * 40, metric="val_bpb", incumbent=1, experiments=[first, second])
    found = verdict.judge(state, second, Rules(rule="improved"))
    assert isinstance(found, Verdict)
    return found


def _experiment(n: int, phase: str, commit: str, f: ev.TrainingFinished, budget_s: float) -> Experiment:
    training = Training(ev.TrainingStarted(n, 1, commit, 1337, budget_s), 0.0, f, 1.0)
    return Experiment(n=n, parent="", phase=phase, commit=commit, trainings=[training], value=f.value)  # type: ignore[arg-type]


def test_the_honest_trainer_is_measured_and_not_flagged(ran: dict[str, ev.TrainingFinished]) -> None:
    found = ran[BASELINE.name]
    assert (found.outcome, found.verified) == ("finished", True)
    assert found.value
    better = msgspec.structs.replace(found, value=found.value - 0.01, hidden=(found.hidden or 0) - 0.01)
    assert judged(found, better).status == "keep"


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name.replace(" ", "_"))
def test_no_cheat_is_kept(
    cheat: Cheat, ran: dict[str, ev.TrainingFinished], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = audit.refusal(audit.audit(honest(), cheat.source))
    assert (refused is not None) == cheat.audit, refused
    start_s = min(run.excluded_seconds for run in ran.values() if run.data)  # on an idle machine
    found, baseline = ran[cheat.name], msgspec.structs.replace(ran[BASELINE.name], excluded_seconds=start_s)
    monkeypatch.setattr(trust, "LEFT_OUT_S", 1.0)  # the real value is for budgets of minutes
    if cheat.fate in ("no effect", "not stopped"):
        assert cheat.fate == "no effect" or refused, "neither stopped nor refused"
        return
    result = judged(baseline, found, budget_s(cheat))
    assert result.status == ("crash" if cheat.fate == "crash" else "discard")
    assert re.search(cheat.reason, result.reason), result.reason


def test_there_are_enough_of_them() -> None:
    assert len(CHEATS) >= 15
    assert len({cheat.name for cheat in CHEATS}) == len(CHEATS)


@pytest.mark.slow
async def test_the_whole_loop_keeps_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same through the real engine, which trains each as if the audit had found nothing."""
    name = f"sympy-v{prepare.FORMAT}"
    world.folder(tmp_path / "cache" / name, 12, 12, 509, 256)
    world.folder(tmp_path / "cache/easy", 12, 12, 509, 256, tokens=2)
    monkeypatch.setenv("AUTORESEARCH_DATA", "sympy")
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = tmp_path / "repo"
    shutil.copytree(ROOT / "nanogpt", root / "nanogpt", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "nanogpt/train.py").write_text(honest())
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"],
    ):
        git(root, *words)
    cheats = [c for c in CHEATS if c.fate in ("crash", "flag") and not c.timed]
    agent = ScriptedAgent(lambda context: Proposal(cheats[context.n - 2].name, cheats[context.n - 2].source))
    bench = Bench(
        root, agent, max_experiments=len(cheats) + 1, budget_s=2, audit="report", rule="improved",
        max_crashes=100, fix_attempts=0, combine=0,
    )  # fmt: skip
    await bench.run()
    state = bench.engine.state
    assert state.sealed
    assert [e.n for e in state.experiments if e.phase == "keep"] == [1]
    for cheat, e in zip(cheats, state.experiments[1:], strict=True):
        assert e.phase == ("crash" if cheat.fate == "crash" else "discard"), e.reason

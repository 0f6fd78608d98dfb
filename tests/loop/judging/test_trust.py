"""What the engine makes of a sealed result: proof, flags, doubts, and who gets to know what."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from loop import events as ev
from loop.agents import prompt
from loop.agents.api.toolbox import Toolbox
from loop.agents.base import Proposal, ResearchContext
from loop.agents.checks import Tried
from loop.judging import trust, verdict
from loop.judging.trust import Sealed, sealed_flags
from loop.records import journal, results
from loop.records.training_folder import proof, read
from loop.state import Experiment, RunState, Training, fold
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


# --- the proof ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"nonce": "right", "val_bpb": 1.5}', 1.5),
        ('{"nonce": "wrong", "val_bpb": 1.5}', None),
        ('{"nonce": "", "val_bpb": 1.5}', None),
        ('{"val_bpb": 1.5}', None),
        ('{"nonce": "right", "val_bpb": "1.5"}', None),
        ('{"nonce": "right", "val_bpb": NaN}', None),
        ('{"nonce": "right", "val_bpb": 1e999}', None),
        ("[]", None),
        ("", None),
    ],
)
def test_only_a_proven_finite_number_is_read(text: str, found: float | None, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    sealed = read(tmp_path / "result.json", proof("right"))
    assert (sealed and sealed.val_bpb) == found


def test_no_file_is_no_result(tmp_path: Path) -> None:
    assert read(tmp_path / "result.json", proof("right")) is None


# --- flags of one run ---


@pytest.mark.parametrize(
    ("training", "total", "printed", "budget", "wall", "words"),
    [
        (300.0, 330.0, 1.0, 300.0, 332.0, []),
        (305.9, 330.0, 1.0, 300.0, 332.0, []),  # a last step
        (306.1, 340.0, 1.0, 300.0, 342.0, ["over budget"]),
        (20.9, 30.0, 1.0, 20.0, 31.0, []),  # a step of a small budget on a busy machine
        (300.0, 310.0, 1.0, 300.0, 400.0, ["outside the trainer's own clock"]),
        (300.0, 330.0, 0.5, 300.0, 332.0, ["it printed"]),
        (300.0, 330.0, None, 300.0, 332.0, []),
    ],
)
def test_flags(
    training: float, total: float, printed: float | None, budget: float, wall: float, words: list[str]
) -> None:
    sealed = Sealed("n", 1.0, training_seconds=training, total_seconds=total)
    found = sealed_flags(sealed, printed, budget, wall)
    assert len(found) == len(words)
    assert all(word in flag for word, flag in zip(words, found, strict=True))


# --- doubts: a run beside the baseline and the incumbent ---


def experiment(n: int, run: Training) -> Experiment:
    return Experiment(
        n=n, parent="", phase="keep" if n == 1 else "judging", commit=run.commit, trainings=[run]
    )


def a_run(commit: str, value: float, hidden: float, data: str = "d", excluded_s: float = 5.0) -> Training:
    return Training(
        1, 1, commit, 300.0, 0.0, outcome="finished", value=value, verified=True, hidden=hidden, data=data,
        excluded_seconds=excluded_s,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (a_run("b", 1.20, 1.19), []),
        (a_run("b", 1.28, 1.31), []),  # a little better on the one than on the other: luck
        (a_run("b", 1.10, 1.29), ["does not hold"]),
        (a_run("b", 1.20, 1.19, data="e"), ["other data"]),
        (a_run("b", 1.20, 1.19, excluded_s=39.0), []),
        (a_run("b", 1.20, 1.19, excluded_s=41.0), ["left out 36.0 s more"]),
    ],
)
def test_doubts(run: Training, words: list[str]) -> None:
    first = experiment(1, a_run("a", 1.30, 1.29))
    first.value = 1.30
    second = experiment(2, run)
    state = RunState(base="a", incumbent=1, experiments=[first, second])
    found = trust.unlike_baseline(state, run)
    assert len(found) == len(words)
    assert all(word in doubt for word, doubt in zip(words, found, strict=True))
    judged = verdict.judge(state, second, verdict.Rules("improved"))
    assert isinstance(judged, verdict.Verdict)
    assert judged.status == ("discard" if words else "keep")


def test_the_baseline_is_kept_whatever_the_machine_does() -> None:
    run = msgspec.structs.replace(a_run("a", 1.3, 1.3), flags=["over budget: trained 30.0 s of 20 s"])
    e = experiment(1, run)
    e.phase = "judging"
    judged = verdict.judge(RunState(base="a", experiments=[e]), e, verdict.Rules())
    assert isinstance(judged, verdict.Verdict)
    assert (judged.status, judged.reason) == ("keep", "baseline, but over budget: trained 30.0 s of 20 s")


# --- the hidden number and the nonce in the loop ---


async def test_the_hidden_number_is_journaled_and_told_to_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = make_repository(tmp_path / "repo", SEALED, "budget_s = 5\nbaseline_runs = 1\n")
    prompts: list[str] = []

    def script(context: ResearchContext) -> Proposal:
        heard = Heard()
        tools = Toolbox(context, heard, Tried())
        prompts.append(repr(prompt.build(context)))
        prompts.append(tools.call("read_experiment", {"experiment": 1}, "a"))
        prompts.append(tools.call("read_log", {"experiment": 1}, "b"))
        prompts.extend(delta.text for delta in heard.deltas)
        return Proposal("lower", context.source.replace("X = 3.0", f"X = {3 - context.n / 8}"))

    bench = Bench(root, ScriptedAgent(script), max_experiments=3, audit="report")
    await bench.run()
    state = fold(journal.read(bench.paths.journal))
    assert [run.hidden for e in state.experiments for run in e.trainings] == [7.654321] * 3
    assert all(run.verified for e in state.experiments for run in e.trainings)
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

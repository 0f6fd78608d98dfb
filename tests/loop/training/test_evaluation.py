"""Who measures a saved model: what judge, claimant and witness are told, and what they may read and write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop.config import Settings
from loop.records.training_folder import Judge, TrainingFolder
from loop.training import evaluation, fence

SETTINGS = Settings(
    train_command=["python", "train.py"],
    judge_command=["{python}", "judge.py"],
    answers_command=["{python}", "answers.py"],
    editable=["train.py"],
    budget_s=300,
)


def judge(
    tmp_path: Path, settings: Settings = SETTINGS, *, fenced: bool = True, reference: bool = False
) -> Judge | None:
    return evaluation.judge(
        settings,
        fence.Support(6, True) if fenced else None,
        folder=TrainingFolder(tmp_path / "training"),
        frozen=tmp_path / "frozen",
        scratch=[tmp_path / "a", tmp_path / "b"],
        variables={"KEY": "k"},
        read=["/venv"],
        reference=tmp_path / "claims.npy" if reference else None,
    )


def test_a_repository_without_a_judge_has_none(tmp_path: Path) -> None:
    assert judge(tmp_path, Settings(editable=["train.py"])) is None


def test_both_are_asked_with_the_frozen_files_about_the_saved_model(tmp_path: Path) -> None:
    found = judge(tmp_path)
    assert found
    model = str(tmp_path / "training/out/model.pt")
    assert (found.cwd, found.model, found.answers[1:]) == (
        str(tmp_path / "frozen"),
        model,
        ["answers.py", model],
    )
    assert found.words == ["--out", str(tmp_path / "training/judge")]
    assert found.log == str(tmp_path / "training/judge.log")
    assert [answerer.env["KEY"] for answerer in found.answerers] == ["k", "k"]
    again = judge(tmp_path, reference=True)
    assert again
    assert again.words[2:] == ["--reference", str(tmp_path / "claims.npy")]


def test_each_writes_in_a_folder_of_its_own_and_reads_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    found = judge(tmp_path)
    assert found
    for answerer, other, own in zip(found.answerers, "ba", "ab", strict=True):
        assert str(tmp_path / own) in answerer.fence.write
        assert str(tmp_path / other) not in answerer.fence.write
        assert not answerer.fence.network
        assert answerer.env["TMPDIR"] == str(tmp_path / own)
        assert answerer.env["HOME"].startswith(str(tmp_path / own))
        readable = answerer.fence.read
        assert str(tmp_path / "cache/held-out") in answerer.fence.hide
        assert {str(tmp_path / "frozen"), str(tmp_path / "training/out/model.pt"), "/venv"} <= set(readable)
        assert not [
            path
            for path in readable
            if path.startswith((str(tmp_path / "cache"), str(tmp_path / "training/judge")))
        ]


def test_the_judge_itself_has_the_users_own_folders(tmp_path: Path) -> None:
    found = judge(tmp_path)
    assert found
    assert found.env["HOME"] == os.environ["HOME"]


def test_without_a_fence_nothing_is_hidden(tmp_path: Path) -> None:
    found = judge(tmp_path, fenced=False)
    assert found
    assert [answerer.fence.on for answerer in found.answerers] == [False, False]


@pytest.mark.parametrize(("budget_s", "timeout_s"), [(1.0, 120.0), (300.0, 600.0)])
def test_it_may_take_as_long_as_a_training_but_at_least_some_time(
    tmp_path: Path, budget_s: float, timeout_s: float
) -> None:
    settings = Settings(judge_command=["j"], answers_command=["a"], editable=["train.py"], budget_s=budget_s)
    found = judge(tmp_path, settings)
    assert found
    assert found.timeout_s == timeout_s

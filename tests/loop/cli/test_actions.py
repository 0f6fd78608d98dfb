"""The commands that open no cockpit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loop import config
from loop.cli.__main__ import main
from loop.paths import RunPaths
from loop.service import launch
from tests.conftest import git


@pytest.fixture
def here(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(repository)
    return repository


def test_status_of_a_finished_run_is_for_people_and_programs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--headless", "--tag", "t", "--agent", "search", "--max-experiments", "2"]) == 0
    capsys.readouterr()
    assert main(["status"]) == 0
    words = capsys.readouterr().out
    assert words.startswith("run t: stopped\n2 experiments, ")
    assert main(["status", "--json", "--tag", "t"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["experiments"], found["running"], found["pid"]) == (2, False, None)
    assert found["best"] <= found["baseline"]


def test_an_engine_answers_from_another_shell_and_stop_now_returns_when_it_is_gone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch.start_detached(RunPaths(here, "t"), {"agent": "search", "budget_s": 30.0})
    assert main(["pause"]) == 0
    assert main(["resume"]) == 0
    assert main(["status"]) == 0
    assert main(["stop", "--now"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[:2] == ["pausing after this training", "going on"]
    assert out.splitlines()[-1] == "stopping now"
    assert main(["logs"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("engine stopped: stopped by hand")
    assert main(["resume"]) == 2


def test_prepare_runs_the_repositorys_own_command_at_its_top(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (here / config.CONFIG).open("a") as file:
        file.write('prepare_command = ["{python}", "-c", "import os, sys; print(os.getcwd(), *sys.argv)"]\n')
    assert main(["prepare", "--shards", "2"]) == 2
    assert "ignored: prepare_command" in capfd.readouterr().err
    assert main(["prepare", "--trust", "--shards", "2"]) == 0
    assert capfd.readouterr().out == f"{here} -c --shards 2\n"


def test_init_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "new")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.strip() for line in lines[:-1]) == git(tmp_path / "new", "ls-files").splitlines()
    assert lines[-1].startswith(f"{tmp_path}/new is ready: cd {tmp_path}/new,")

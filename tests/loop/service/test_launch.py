"""The engine as a process of its own: detached, alone, and gone when it is told to go."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from loop import config, processes
from loop import events as ev
from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records import journal
from loop.records.repository import Repository
from loop.service import attach, launch
from loop.state import Experiment, RunState, fold
from tests.conftest import git
from tests.loop.judged import make_judged
from tests.loop.trainings import training as training_of

LONG: dict[str, Any] = {"agent": "search", "budget_s": 30.0}


@pytest.fixture
def paths(repository: Path) -> Iterator[RunPaths]:
    """A run's folder; whatever engine is still there afterwards is ended."""
    paths = RunPaths(repository, "t")
    yield paths
    found = attach.info(paths)
    if found and attach.engine_runs(paths):
        os.kill(found.pid, signal.SIGTERM)
    wait(lambda: ours(paths) == [], 5)


def wait(condition: object, seconds: float = 15) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def ours(paths: RunPaths) -> list[psutil.Process]:
    """Processes that work in this run's folder or repository."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.cwd().startswith(str(paths.root)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def training(paths: RunPaths) -> bool:
    return fold(journal.read(paths.journal)).training is not None and len(ours(paths)) >= 2


def command(paths: RunPaths, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loop.cli", *words], cwd=paths.root, capture_output=True, text=True
    )


def test_it_is_detached_answers_from_another_shell_and_stops_with_all_it_started(paths: RunPaths) -> None:
    launch.start_detached(paths, LONG)
    found = attach.info(paths)
    assert found is not None
    assert os.getsid(found.pid) == found.pid
    wait(lambda: training(paths))
    os.kill(found.pid, signal.SIGHUP)
    status = command(paths, "status")
    assert "run t: training" in status.stdout
    assert "training experiment 1" in status.stdout
    assert command(paths, "pause").stdout == "pausing after this training\n"
    assert command(paths, "resume").stdout == "going on\n"
    began = time.monotonic()
    assert command(paths, "stop", "--now").returncode == 0
    assert time.monotonic() - began < 5
    assert ours(paths) == []
    assert not attach.engine_runs(paths)
    assert fold(journal.read(paths.journal)).stopped == "stopped by hand"


def test_a_second_engine_is_refused_with_the_first_ones_pid(paths: RunPaths) -> None:
    launch.start_detached(paths, LONG)
    first = attach.info(paths)
    assert first is not None
    second = command(paths, "run", "--headless", "--tag", "t", "--agent", "search", "--budget", "30")
    assert second.returncode == 2
    assert f"an engine for run t is running already (pid {first.pid})" in second.stderr
    with pytest.raises(UsageError, match=f"pid {first.pid}"):
        launch.start_detached(paths, LONG)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_engine_and_trainer_within_five_seconds(
    paths: RunPaths, number: signal.Signals
) -> None:
    launch.start_detached(paths, LONG)
    found = attach.info(paths)
    assert found is not None
    wait(lambda: training(paths))
    began = time.monotonic()
    os.kill(found.pid, number)
    wait(lambda: not processes.alive(found.pid), 5)
    assert time.monotonic() - began < 5
    assert ours(paths) == []
    state = fold(journal.read(paths.journal))
    assert state.stopped == "stopped by a signal"
    assert state.experiment(1).phase == "training"


def test_an_engine_that_cannot_start_says_why(paths: RunPaths) -> None:
    with pytest.raises(UsageError, match="no agent 'nobody'"):
        launch.start_detached(paths, {"agent": "nobody"})


def test_a_killed_engine_leaves_no_lock_and_its_trainer_is_adopted(paths: RunPaths) -> None:
    flags = {**LONG, "budget_s": 2.0, "max_experiments": 1}
    launch.start_detached(paths, flags)
    found = attach.info(paths)
    assert found is not None
    wait(lambda: training(paths))
    os.kill(found.pid, signal.SIGKILL)
    wait(lambda: not attach.engine_runs(paths))
    launch.start_detached(paths, flags)
    wait(lambda: fold(journal.read(paths.journal)).rows == 1)
    records = journal.read(paths.journal)
    assert sum(isinstance(r.event, ev.TrainingStarted) for r in records) == 1
    assert sum(isinstance(r.event, ev.EngineStarted) for r in records) == 2
    assert fold(records).experiment(1).phase == "keep"


async def test_two_windows_see_the_same(paths: RunPaths) -> None:
    await asyncio.to_thread(launch.start_detached, paths, LONG)
    one, two = await attach.connect(paths), await attach.connect(paths)
    await one.send(ev.Steer("hello"))
    for client in (one, two):
        async with asyncio.timeout(5):
            async for record in client.records():
                if isinstance(record.event, ev.Steered):
                    break
        assert [m.text for m in client.state.steering] == ["hello"]
        await client.close()


def test_the_flags_reach_the_engine_through_a_private_file(paths: RunPaths) -> None:
    launch.start_detached(paths, {**LONG, "agent_command": ["my agent", "--x"], "approve": True})
    assert paths.flags.stat().st_mode & 0o777 == 0o600
    assert launch.read_flags(paths.flags) == {**LONG, "agent_command": ["my agent", "--x"], "approve": True}
    assert not [path for path in paths.folder.iterdir() if path.name.startswith("tmp")]
    found = attach.info(paths)
    assert found is not None
    assert "my agent" not in " ".join(psutil.Process(found.pid).cmdline())
    started = [r.event for r in journal.read(paths.journal) if isinstance(r.event, ev.EngineStarted)]
    assert [(e.agent, e.budget_s, e.approval) for e in started] == [("search", 30.0, True)]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "No such file"), ("{", "is not a file of flags"), ("[]", "is not a file of flags: it holds no")],
)
def test_a_file_of_flags_that_cannot_be_one_is_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "flags.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=message):
        launch.read_flags(file)


SCOPED = {"USER": "me", "INVOCATION_ID": "1"}
"""The environment of a process in a systemd unit of its own."""


@pytest.mark.parametrize(
    ("files", "environ", "warned"),
    [
        ({}, {"USER": "me"}, False),
        ({"etc/logind.conf": "[Login]\n#KillUserProcesses=yes\n"}, {"USER": "me"}, False),
        ({"etc/logind.conf": "[Login]\nKillUserProcesses = yes\n"}, {"USER": "me"}, True),
        ({"usr/logind.conf": "KillUserProcesses=yes\n"}, {"USER": "me"}, True),
        ({"usr/logind.conf": "KillUserProcesses=yes", "etc/logind.conf": "KillUserProcesses=no"}, {}, False),
        ({"etc/logind.conf": "", "etc/logind.conf.d/a.conf": "KillUserProcesses=1"}, {"USER": "me"}, True),
        ({"etc/logind.conf": "KillUserProcesses=yes"}, {"USER": "root"}, False),
        ({"etc/logind.conf": "KillUserProcesses=yes"}, SCOPED, True),
        ({"etc/logind.conf": "KillUserProcesses=yes", "linger/me": ""}, {"USER": "me"}, True),
        ({"etc/logind.conf": "KillUserProcesses=yes", "linger/me": ""}, SCOPED, False),
    ],
)  # fmt: skip
def test_a_system_that_kills_at_log_out_is_warned_of(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], warned: bool
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    folders = [str(tmp_path / "usr"), str(tmp_path / "etc")]
    found = launch.logout_warning(environ, folders, tmp_path / "linger")
    assert (found is not None) == warned
    assert found is None or "loginctl enable-linger" in found


# --- a run that is not our own, or was begun without a judge ---


@pytest.mark.parametrize(
    ("tag", "editable"), [("u", "train.py"), ("t", "../x"), ("t", "/x"), ("t", "a/../../x"), ("t", "")]
)
def test_a_journal_that_somebody_else_has_written_is_not_gone_on_with(
    tmp_path: Path, tag: str, editable: str
) -> None:
    """A CLI agent gets a copy of the file that it may edit: it would be written wherever that name leads."""
    mine = RunPaths(tmp_path, "t")
    launch._check_journal(mine, RunState())
    launch._check_journal(mine, RunState(tag="t", editable="nanogpt/train.py"))
    with pytest.raises(UsageError, match="is not of run t"):
        launch._check_journal(mine, RunState(tag=tag, editable=editable))


def test_a_run_goes_on_only_with_the_judge_that_measured_it_before(tmp_path: Path) -> None:
    root = make_judged(tmp_path / "repo")
    repository = Repository.discover(root)
    base = repository.head()
    settings = config.load(repository, base, {}, {}, config.described())
    launch._check_judge(settings, repository, RunState())  # a run that begins
    state = RunState(tag="t", base=base)
    launch._check_judge(settings, repository, state)
    (root / "train.py").write_text("X = 1\n")
    git(root, "rm", "-q", "judge.py")
    git(root, "commit", "-qam", "no judge")
    older = RunState(tag="t", base=repository.head())
    with pytest.raises(UsageError, match=r"run t was begun without judge\.py"):
        launch._check_judge(settings, repository, older)
    e = Experiment(n=1, parent="", commit=base, trainings=(training_of(1, base, verified=True),))
    measured = RunState(tag="t", base=base, experiments=[e])
    with pytest.raises(UsageError, match="run t was begun without `judge_command`"):
        launch._check_judge(Settings(editable=["train.py"]), repository, measured)
    repository.close()

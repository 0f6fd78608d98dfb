"""The executor for this machine: the contract of every executor, and what is special about this one."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop.config import Settings
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import Spec
from loop.training import fence, gpu, slot
from loop.training.executor import Ended, Executor, Job, PrepareFailed
from loop.training.gpu import Facts
from loop.training.local import LocalExecutor
from tests.conftest import git
from tests.loop.training.contract import (
    LONG_S,
    Bench,
    ExecutorContract,
    interrupted,
    processes,
    steps,
    trains,
    until,
)


class TestLocalExecutor(ExecutorContract):
    @staticmethod
    def make(settings: Settings, paths: RunPaths, repository: Repository, seats: int) -> Executor:
        return LocalExecutor(settings, paths, repository, seats)


@pytest.fixture
async def bench(repository: Path) -> AsyncIterator[Bench]:
    bench = Bench(repository, LocalExecutor)
    yield bench
    await bench.close()


def local(bench: Bench, seats: int = 1, **flags: object) -> LocalExecutor:
    executor = bench.executor(seats, **flags)
    assert isinstance(executor, LocalExecutor)
    return executor


async def trained(executor: Executor, job: Job) -> Spec:
    """Train to the end; returns what the supervisor was told."""
    await executor.start(job)
    assert isinstance(await executor.follow(job), Ended)
    spec = job.folder.read_spec()
    assert spec is not None
    return spec


async def test_a_trainer_is_told_where_its_model_goes_and_can_write_there(bench: Bench) -> None:
    job = bench.job(1, code="import os\nopen(os.environ['AUTORESEARCH_MODEL_FILE'], 'w').write('model')\n")
    spec = await trained(local(bench), job)
    assert (spec.key, spec.env) == (job.key, {})
    assert job.folder.model.read_text() == "model"


# --- the supervisor that stands by ---


async def test_the_next_supervisor_waits_while_a_training_runs(bench: Bench) -> None:
    executor = local(bench)
    await trained(executor, bench.job(1))
    waiting = executor._seats[0].standby
    assert waiting is not None
    await executor.start(bench.job(2))
    assert executor.processes() == [waiting._process.pid]
    assert isinstance(await executor.follow(bench.job(2)), Ended)


async def test_a_supervisor_that_is_killed_while_it_waits_is_replaced(bench: Bench) -> None:
    executor = local(bench)
    await trained(executor, bench.job(1))
    waiting = executor._seats[0].standby
    assert waiting is not None
    waiting._process.kill()
    waiting._process.wait()
    assert steps(bench.job(1))
    await trained(executor, bench.job(2))
    assert steps(bench.job(2))


async def test_a_waiting_supervisor_ends_with_its_engine(bench: Bench) -> None:
    executor = local(bench)
    await trained(executor, bench.job())
    waiting = executor._seats[0].standby
    assert waiting is not None
    process = psutil.Process(waiting._process.pid)
    bench.dies(executor)
    executor._seats[0].standby = None
    del waiting
    await until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


# --- before the first training ---


async def test_beside_a_gpu_the_machine_is_tested_once_and_only_a_dead_device_stops(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu, "DRIVER", tmp_path)
    monkeypatch.setattr(gpu, "ask", lambda python, environ: Facts("2.13", "13.0", "580.65", "NVIDIA H100"))
    lines = 'print("warn     0.1 s  compiler: no gcc", flush=True)\n'
    (bench.root / "selftest.py").write_text(lines)
    git(bench.root, "add", ".")
    git(bench.root, "commit", "-qm", "selftest")
    commit = bench.repository.head()
    shown: list[ev.LiveEvent] = []
    await local(bench).prepare(commit, shown.append)
    await local(bench).prepare(commit, shown.append)
    warnings = [event.text for event in shown if isinstance(event, ev.Notice)]
    assert warnings == ["self test: compiler: no gcc"]
    commit = bench.commit("selftest.py", lines + 'print("fail     0.1 s  device: cuInit: 304", flush=True)\n')
    with pytest.raises(PrepareFailed, match="cuInit: 304"):
        await local(bench).prepare(commit, shown.append)


# --- what a training is given ---


@pytest.mark.parametrize("seats", [1, 4])
async def test_seats_share_the_machines_memory(bench: Bench, seats: int) -> None:
    spec = await trained(bench.executor(seats=seats), bench.job())
    assert spec.memory_gb == pytest.approx(0.9 * psutil.virtual_memory().total / 2**30 / seats)


async def test_a_limit_of_the_settings_holds_for_each_seat(bench: Bench) -> None:
    spec = await trained(bench.executor(seats=4, memory_gb=2.5, disk_gb=3), bench.job())
    assert (spec.memory_gb, spec.disk_gb, spec.fence.file_bytes) == (2.5, 3, 3 * 2**30)


async def test_what_a_training_writes_is_counted_in_all_folders_of_its_own(bench: Bench) -> None:
    spec = await trained(bench.executor(), bench.job())
    scratch = [bench.paths.scratch(name) for name in ("0", "0-claimant", "0-witness")]
    own = [bench.paths.slot(0), bench.job().folder.out, *scratch, bench.paths.compiled]
    assert spec.folders == [str(path) for path in own]
    unfenced = await trained(bench.executor(sandbox="off"), bench.job(2))
    assert unfenced.folders == [str(bench.paths.slot(0)), str(bench.job(2).folder.out)]
    assert not unfenced.fence.on


async def test_a_trainer_of_uvs_is_the_supervisors_own_child_and_can_name_its_threads(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA does not start where a process may not write to its own folder in /proc."""
    uv = tmp_path / "programs/uv"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\nexec {sys.executable} -m venv --without-pip "$UV_PROJECT_ENVIRONMENT"\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:{os.environ['PATH']}")
    code = (
        "import sys, threading\n"
        "open(f'/proc/self/task/{threading.get_native_id()}/comm', 'w').write('cuda')\n"
        "print('prefix', sys.prefix, flush=True)\n"
    )
    executor, job = local(bench, train_command=["uv", "run", "train.py"]), bench.job(code=code)
    await executor.prepare(job.commit, lambda event: None)
    await trained(executor, job)
    assert f"prefix {bench.paths.venv}\n" in job.folder.end_of_log()
    assert steps(job)


@pytest.mark.parametrize("network", [False, True])
async def test_a_data_hub_may_be_asked_only_with_network(bench: Bench, network: bool) -> None:
    job = bench.job(code="import os\nprint('offline', os.environ.get('HF_HUB_OFFLINE'), flush=True)\n")
    await trained(local(bench, network=network), job)
    assert f"offline {None if network else 1}\n" in job.folder.end_of_log()


async def test_held_out_text_is_hidden_where_a_judge_measures_the_model(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer without a judge measures itself, and has to read the text."""
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path))
    held_out = str(tmp_path / "held-out")
    assert (await trained(bench.executor(), bench.job(1))).fence.hide == []
    program = ["{python}", "notes.txt"]
    found = await trained(bench.executor(judge_command=program, answers_command=program), bench.job(2))
    assert held_out in found.fence.hide
    assert found.judge
    assert all(held_out in answerer.fence.hide for answerer in found.judge.answerers)


async def test_a_place_says_how_strong_its_fence_is(bench: Bench) -> None:
    assert bench.executor().describe()[0].fence == str(fence.detect())
    assert bench.executor(sandbox="off").describe()[0].fence == "off"


# --- data ---


async def test_data_that_changed_without_a_fence_is_named(bench: Bench, tmp_path: Path) -> None:
    data = tmp_path / "data/tokens.bin"
    data.parent.mkdir()
    data.write_text("precious")
    executor = bench.executor(sandbox="off", data=[str(data.parent)])
    job = bench.job(code=f"open({str(data)!r}, 'w')\n")
    await executor.start(job)
    await until(lambda: not data.read_text() and not processes(job))
    await executor.start(job)  # which must not take the changed data for the original
    ended = await executor.follow(job)
    assert isinstance(ended, Ended)
    assert (ended.changed_data, ended.changed) == (str(data), [str(data)])


# --- seats ---


async def test_a_training_in_a_seat_that_is_no_more_is_taken_over(bench: Bench) -> None:
    first, job = bench.executor(seats=2), bench.job(budget_s=1, seat=1)
    await interrupted(await trains(first, job))
    bench.dies(first)
    second = bench.executor(seats=1)
    await second.start(job)
    assert isinstance(await second.follow(job), Ended)
    assert second.capacity() == 1
    await second.close()
    assert not bench.paths.scratch(1).exists()


async def test_data_is_prepared_beside_a_training_in_a_folder_of_its_own(bench: Bench) -> None:
    executor, job = bench.executor(prepare_command=["{python}", "notes.txt"]), bench.job(budget_s=1)
    following = await trains(executor, job)
    commit = bench.commit("notes.txt", "print('other')\n")
    await asyncio.wait_for(executor.prepare(commit, lambda event: None), 20)
    assert (bench.paths.slot("prepare") / "notes.txt").read_text() == "print('other')\n"
    assert (bench.paths.slot(0) / "notes.txt").read_text() != "print('other')\n"
    await following


# --- cancelling ---


async def test_a_cancelled_start_waits_until_nothing_writes_to_the_slot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporting, go_on, ended = threading.Event(), threading.Event(), list[bool]()
    export = slot.Slot.export

    def slow(self: slot.Slot, repository: Repository, commit: str) -> None:
        exporting.set()
        go_on.wait(20)
        export(self, repository, commit)
        ended.append(True)

    monkeypatch.setattr(slot.Slot, "export", slow)
    executor, job = bench.executor(), bench.job(budget_s=LONG_S)
    starting = asyncio.create_task(executor.start(job))
    await until(exporting.is_set)
    starting.cancel()
    await asyncio.wait({starting}, timeout=0.2)
    assert not starting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert ended == [True]
    assert processes(job) == []

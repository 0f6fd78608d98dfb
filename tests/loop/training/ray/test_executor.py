"""The executor for Ray, on a real cluster of two machines with two GPUs each that are only numbers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop.agents.base import Proposal, ResearchContext
from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records import results
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.training.executor import Ended, Executor, Lost
from loop.training.ray.executor import RayExecutor
from tests.conftest import git, make_repository
from tests.loop import scripted
from tests.loop.judged import make_judged
from tests.loop.scripted import ScriptedAgent
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
from tests.loop.training.ray import cluster as program
from tests.loop.training.ray.cluster import RayCluster, ray_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with ray_cluster(tmp_path_factory.mktemp("ray")) as cluster:
        yield cluster


@pytest.fixture
async def bench(repository: Path, cluster: RayCluster) -> AsyncIterator[Bench]:
    bench = Bench(repository, RayExecutor)
    yield bench
    await bench.close()


def workers() -> list[psutil.Process]:
    """Ray's processes that hold a training."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("ray::Worker") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


# --- through the engine ---

EXPERIMENTS, SEATS = 8, 4


def worse(context: ResearchContext) -> Proposal:
    """A change that no other one touches the result of: all are worse than the baseline, and one crashes."""
    line = "raise SystemExit(3)" if context.n == 5 else f"X = {3 + context.n / 4}"
    return Proposal(f"experiment {context.n}", context.source.replace("X = 3.0", line))


async def researched(folder: Path, **options: object) -> tuple[scripted.Bench, list[tuple[object, ...]]]:
    """A run of eight experiments, and its rows in the order of their numbers without what depends on time."""
    flags = {"max_experiments": EXPERIMENTS, "fix_attempts": 0, "workers": SEATS, **options}
    bench = scripted.Bench(make_repository(folder), ScriptedAgent(worse), **flags)  # type: ignore[arg-type]
    await bench.run()
    frame = results.read(folder / "results.tsv").sort("description")
    return bench, frame.select("val_bpb", "memory_gb", "status", "description").rows()


async def test_eight_experiments_give_what_they_give_on_this_machine(
    cluster: RayCluster, repository: Path, tmp_path: Path
) -> None:
    _, expected = await researched(tmp_path / "local")
    bench, rows = await researched(tmp_path / "ray", make=RayExecutor)
    assert rows == expected
    assert len(rows) == EXPERIMENTS
    logs = [
        {path.parts[-3:]: path.read_bytes() for path in (tmp_path / name / ".autoresearch").rglob("run.log")}
        for name in ("local", "ray")
    ]
    assert logs[0] == logs[1]
    trained = bench.events(ev.TrainingFinished)
    assert {event.n for event in trained} == set(range(1, EXPERIMENTS + 1))
    assert len(trained) == len(logs[0])
    assert len({event.place for event in trained}) >= 2
    git(tmp_path / "ray", "fsck", "--strict")


@pytest.mark.slow
async def test_models_are_judged_where_they_were_trained_and_come_home(
    cluster: RayCluster, repository: Path, tmp_path: Path
) -> None:
    root = make_judged(tmp_path / "judged")
    agent = ScriptedAgent(lambda c: Proposal(f"X {c.n}", c.source.replace("X = 3.0", f"X = {3 - c.n / 8}")))
    bench = scripted.Bench(root, agent, make=RayExecutor, max_experiments=3, audit="report", rule="improved")
    await bench.run()
    ends = bench.events(ev.TrainingFinished)
    assert {end.n for end in ends} == {1, 2, 3}
    assert {(end.verified, end.hidden, end.probes) for end in ends} == {(True, 7.654321, 1)}
    assert all(end.value and end.model_bytes and end.used_seconds and end.place for end in ends)
    incumbent = bench.engine.state.incumbent
    assert incumbent is not None
    assert TrainingFolder(bench.paths.training(incumbent, 1)).model.read_text() in {"3.0", "2.75", "2.625"}


# --- what is lost ---


async def test_a_killed_worker_is_a_lost_attempt_and_leaves_no_process(bench: Bench) -> None:
    executor, job = bench.executor(), bench.job(budget_s=LONG_S)
    following = await trains(executor, job)
    [worker] = workers()
    worker.kill()
    lost = await asyncio.wait_for(following, 30)
    assert lost == Lost("its Ray worker was killed")
    await until(lambda: not processes(job))
    again = bench.job(attempt=2)
    await executor.start(again)
    assert isinstance(await executor.follow(again), Ended)
    assert steps(again) == [f"step 0000{i}" for i in range(4)]


@pytest.mark.slow
async def test_a_training_goes_on_while_its_helper_is_killed(bench: Bench) -> None:
    executor, job = bench.executor(), bench.job(budget_s=6)
    following = await trains(executor, job)
    assert isinstance(executor, RayExecutor)
    os.kill(executor._link.helper, signal.SIGKILL)
    ended = await asyncio.wait_for(following, 30)
    assert isinstance(ended, Ended)
    assert steps(job) == [f"step 0000{i}" for i in range(4)]
    assert workers() == []


# --- clusters that cannot be used ---


def refusal(bench: Bench, **flags: str) -> str:
    """Why an executor cannot be made, which has to be known within ten seconds."""
    began = time.monotonic()
    with pytest.raises(UsageError) as refused:
        bench.executor(1, **flags)
    assert time.monotonic() - began < 12
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def test_a_cluster_that_cannot_be_used_is_said_in_one_sentence(bench: Bench, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        said = refusal(bench, ray_address=f"127.0.0.1:{port}")
    assert said.startswith(f"no Ray head answers at 127.0.0.1:{port} (Connection refused): start it")
    assert "must be HOST:PORT or auto" in refusal(bench, ray_address="ray://somewhere")
    assert "vm cannot train: /none: No such file".replace("vm", platform.node()) in refusal(
        bench, node_python="/none"
    )
    for name, value in (("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none")), ("RAY_AUTH_MODE", "disabled")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            assert "does not take our token" in refusal(bench)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestRayExecutor(ExecutorContract):
    WHILE_S = 15.0

    @staticmethod
    def children() -> set[psutil.Process]:
        """Without the cluster."""
        found = ExecutorContract.children()
        cluster = {p for p in found if program.__file__ in p.cmdline()}
        return found - {below for process in cluster for below in process.children(recursive=True)}

    @staticmethod
    def make(settings: Settings, paths: RunPaths, repository: Repository, seats: int) -> Executor:
        return RayExecutor(settings, paths, repository, seats)


@pytest.mark.slow
async def test_a_cluster_that_says_nothing_is_given_up_after_ten_seconds(bench: Bench) -> None:
    with socket.socket() as silent:  # something listens there, but it is no Ray
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        said = refusal(bench, ray_address=f"127.0.0.1:{silent.getsockname()[1]}")
    assert "does not answer within 9 s" in said


@pytest.mark.slow
async def test_a_lost_machine_is_a_lost_attempt(bench: Bench, cluster: RayCluster) -> None:
    machine = cluster.add()
    executor = bench.executor()
    jobs = [bench.job(n, budget_s=LONG_S, seat=n) for n in range(6)]
    following = [await trains(executor, job) for job in jobs]
    cluster.lose(machine)
    done, waiting = await asyncio.wait(following, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    assert done
    assert {task.result() for task in done} <= {
        Lost("its machine is gone"),
        Lost("its Ray worker was killed"),
    }
    for task in waiting:
        await interrupted(task)
    cluster.add()

"""The executor for Slurm, on a real one: a controller and two machines on this one."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from loop.config import Settings
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.training.executor import Ended, Executor, Lost
from loop.training.slurm.executor import SlurmExecutor
from tests.loop.training.contract import LONG_S, Bench, ExecutorContract, processes, steps, trains, until
from tests.loop.training.slurm.cluster import SlurmCluster, slurm_cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.mark.usefixtures("cluster")
class TestSlurmExecutor(ExecutorContract):
    WHILE_S = 4.0

    @staticmethod
    def children() -> set[psutil.Process]:
        """Without the daemons."""
        return {process for process in ExecutorContract.children() if "slurm" not in process.name()}

    @staticmethod
    def make(settings: Settings, paths: RunPaths, repository: Repository, seats: int) -> Executor:
        return SlurmExecutor(settings, paths, repository, seats)


@pytest.fixture
async def bench(repository: Path, cluster: SlurmCluster) -> AsyncIterator[Bench]:
    bench = Bench(repository, SlurmExecutor)
    yield bench
    await bench.close()


async def numbers(executor: Executor) -> set[str]:
    """The jobs that an executor has in the queue."""
    assert isinstance(executor, SlurmExecutor)
    return {job.id for job in await executor._queue.jobs(fresh=True)}


async def test_the_place_is_the_machine_once_it_is_known(bench: Bench) -> None:
    executor, job = bench.executor(slurm_gres="gpu:1"), bench.job()
    assert (await executor.start(job)).startswith("Slurm job ")
    ended = await executor.follow(job)
    assert isinstance(ended, Ended)
    assert ended.place.startswith(platform.node())


async def test_a_lost_machine_is_a_lost_attempt(bench: Bench, cluster: SlurmCluster) -> None:
    executor, job = bench.executor(), bench.job(budget_s=LONG_S)
    following = await trains(executor, job)
    machine = cluster.machine_of(processes(job)[0].pid)
    cluster.kill(machine)
    lost = await asyncio.wait_for(following, 120)
    assert isinstance(lost, Lost)
    assert lost.reason.startswith("its Slurm job")
    assert processes(job) == []
    cluster.start(machine)
    again = bench.job(attempt=2)
    await executor.start(again)
    assert isinstance(await executor.follow(again), Ended)


async def test_a_controller_that_is_restarted_is_waited_for(bench: Bench, cluster: SlurmCluster) -> None:
    executor, job = bench.executor(), bench.job(budget_s=15)
    following = await trains(executor, job)
    cluster.kill("slurmctld")
    await asyncio.sleep(3)
    assert not following.done()
    cluster.start("slurmctld")
    ended = await asyncio.wait_for(following, 60)
    assert isinstance(ended, Ended)
    assert steps(job) == [f"step 0000{i}" for i in range(4)]


async def test_an_order_that_slurm_starts_twice_is_carried_out_once(
    bench: Bench, cluster: SlurmCluster
) -> None:
    executor, job = bench.executor(), bench.job(budget_s=6)
    following = await trains(executor, job)
    [number] = await numbers(executor)
    script = cluster.ask("scontrol", "write", "batch_script", number, "-")
    cluster.submit(script)
    ended = await following
    assert isinstance(ended, Ended)
    assert steps(job) == [f"step 0000{i}" for i in range(4)]


async def test_workers_keep_their_places(bench: Bench, cluster: SlurmCluster) -> None:
    executor = bench.executor(seats=2, slurm_allocation=True, slurm_gres="gpu:1")
    jobs = [bench.job(n, seat=n - 1) for n in (1, 2)]
    for job in jobs:
        await executor.start(job)
    first = await numbers(executor)
    assert len(first) == 2
    ended = await asyncio.gather(*(executor.follow(job) for job in jobs))
    assert [type(end) for end in ended] == [Ended, Ended]
    third = bench.job(3, budget_s=LONG_S)
    following = await trains(executor, third)
    assert await numbers(executor) == first
    await executor.stop(third)
    assert isinstance(await following, Lost)
    assert processes(third) == []
    assert await numbers(executor) == first
    await executor.close()
    await until(lambda: not set(cluster.ask("squeue", "-h", "-o", "%i").split()) & first)


async def test_a_worker_that_is_cancelled_loses_its_training(bench: Bench, cluster: SlurmCluster) -> None:
    executor, job = bench.executor(slurm_allocation=True), bench.job(budget_s=LONG_S)
    following = await trains(executor, job)
    cluster.ask("scancel", *await numbers(executor))
    assert isinstance(await asyncio.wait_for(following, 60), Lost)
    assert processes(job) == []


async def test_a_job_that_cannot_begin_says_why(bench: Bench) -> None:
    executor, job = bench.executor(node_python="/none"), bench.job()
    await executor.start(job)
    with pytest.raises(OSError, match=r"before it began: .*/none") as refused:
        await executor.follow(job)
    assert refused.value.filename == "Slurm"


async def test_a_job_that_waits_in_vain_says_what_to_change(bench: Bench) -> None:
    executor, job = bench.executor(slurm_time=600), bench.job()
    await executor.start(job)
    with pytest.raises(OSError, match=r"will not start \(PartitionTimeLimit\): set --slurm-time"):
        await executor.follow(job)


async def test_what_slurm_refuses_is_said(bench: Bench) -> None:
    with pytest.raises(OSError, match=r"(?i)gres") as refused:
        await bench.executor(slurm_gres="tpu:1").start(bench.job())
    assert refused.value.filename == "Slurm"

"""The executor for Slurm, on a real one: a controller and two machines on this one."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from loop.config import Settings
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.training.executor import Executor
from loop.training.slurm.executor import SlurmExecutor
from tests.loop.training.contract import ExecutorContract
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

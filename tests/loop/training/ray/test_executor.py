"""The executor for Ray, on a real cluster of two machines with two GPUs each that are only numbers."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from loop.config import Settings
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.training.executor import Executor
from loop.training.ray.executor import RayExecutor
from tests.loop.training.contract import ExecutorContract
from tests.loop.training.ray import cluster as program
from tests.loop.training.ray.cluster import RayCluster, ray_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with ray_cluster(tmp_path_factory.mktemp("ray")) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestRayExecutor(ExecutorContract):
    WHILE_S = 8.0

    @staticmethod
    def children() -> set[psutil.Process]:
        """Without the cluster."""
        found = ExecutorContract.children()
        cluster = {p for p in found if str(program.__file__) in p.cmdline()}
        return found - {below for process in cluster for below in process.children(recursive=True)}

    @staticmethod
    def make(settings: Settings, paths: RunPaths, repository: Repository, seats: int) -> Executor:
        return RayExecutor(settings, paths, repository, seats)

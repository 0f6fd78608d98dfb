"""Which executor the settings choose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop import config
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.service.executors import make_executor
from loop.training.executor import Executor
from loop.training.local import LocalExecutor


def made(root: Path, **flags: object) -> Executor:
    repository = Repository.discover(root)
    settings = config.load(repository, repository.head(), flags, {"PATH": os.environ["PATH"]})
    paths = RunPaths(root, "t")
    paths.create()
    try:
        return make_executor(settings, paths, repository)
    finally:
        repository.close()


async def test_without_a_wish_trainings_run_on_this_machine(repository: Path) -> None:
    executor = made(repository)
    assert isinstance(executor, LocalExecutor)
    await executor.close()


def test_a_cluster_that_cannot_be_used_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no Ray head answers"):
        made(repository, executor="ray", ray_address="127.0.0.1:1")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="sbatch is not on the PATH"):
        made(repository, executor="slurm")


def test_a_repository_that_wants_a_cluster_needs_trust(repository: Path) -> None:
    (repository / "autoresearch.toml").write_text(
        (repository / "autoresearch.toml").read_text() + 'executor = "ray"\n'
    )
    opened = Repository.discover(repository)
    assert config.load(opened, opened.head(), {}, {}).executor == "local"
    assert config.load(opened, opened.head(), {}, {}, ["executor"]).executor == "ray"
    opened.close()


def test_choosing_this_machine_loads_no_other_backend() -> None:
    code = "import sys, loop.service.executors; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"ray", "loop.training.ray.executor", "loop.training.slurm.executor"} & set(loaded)

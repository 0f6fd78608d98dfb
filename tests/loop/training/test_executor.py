"""The contract itself: whoever keeps it has all its duties, and each of them is tested for every executor."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from loop.training.executor import Executor
from loop.training.local import LocalExecutor
from loop.training.ray.executor import RayExecutor
from loop.training.slurm.executor import SlurmExecutor

DUTIES = [name for name, member in vars(Executor).items() if inspect.isfunction(member) and name[0] != "_"]
CONTRACT = Path(__file__).with_name("contract.py").read_text()


def test_the_contract_has_the_duties_that_an_engine_needs() -> None:
    assert DUTIES == [
        "describe", "capacity", "prepare", "start", "follow", "stop", "sweep", "processes", "close",
    ]  # fmt: skip


@pytest.mark.parametrize("duty", DUTIES)
def test_every_duty_is_called_by_the_suite_that_all_executors_pass(duty: str) -> None:
    assert f".{duty}(" in CONTRACT


@pytest.mark.parametrize("backend", [LocalExecutor, RayExecutor, SlurmExecutor])
@pytest.mark.parametrize("duty", DUTIES)
def test_every_executor_takes_the_same_arguments(duty: str, backend: type) -> None:
    ours, theirs = getattr(backend, duty), getattr(Executor, duty)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)

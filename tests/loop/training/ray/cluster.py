"""A real Ray cluster on this machine: a head without seats, and machines with GPUs that are only numbers.

It runs in a process of its own (this file as a program), because Ray reads its settings when it is imported
and leaves threads behind.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

GPUS = 2
"""GPUs of each machine."""


class RayCluster:
    """The cluster, and the variables without which nobody can use it."""

    def __init__(self, folder: Path, machines: int) -> None:
        token = folder / "token"
        token.write_text(secrets.token_hex(16))
        token.chmod(0o600)
        self.variables = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }
        home = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
        home["HOME"] = str(folder)
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "ray.log").open("wb"),
            env=os.environ | self.variables | home,
            text=True,
        )
        self.address = self._read()
        self.raylets = [self.add() for _ in range(machines)]
        """The machines that it began with, by the pid of their raylet."""

    def add(self) -> int:
        """One more machine; returns the pid of its raylet."""
        return int(self._ask("add"))

    def lose(self, raylet: int) -> None:
        """A machine is gone at once, as if it had lost its power."""
        self._ask(f"lose {raylet}")

    def close(self) -> None:
        assert self._process.stdin, "it is a pipe"
        self._process.stdin.close()
        self._process.wait(60)

    def _ask(self, command: str) -> str:
        assert self._process.stdin, "it is a pipe"
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout, "it is a pipe"
        while line := self._process.stdout.readline():
            if line.startswith("> "):  # what Ray prints besides is passed over
                return line[2:].strip()
        raise AssertionError("the cluster did not start")


@contextlib.contextmanager
def ray_cluster(folder: Path, machines: int = 2) -> Iterator[RayCluster]:
    """A cluster while the block runs, which this process may use. Skips where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install -e '.[dev]'")
    cluster = RayCluster(folder, machines)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (cluster.variables | {"RAY_ADDRESS": cluster.address}).items():
            patch.setenv(name, value)
        yield cluster
    cluster.close()


def main() -> None:
    """Start the head, print its address, then do what standard input says until it closes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
    )
    print(f"> {cluster.address}", flush=True)
    machines = {}
    for line in sys.stdin:
        word, *pid = line.split()
        if word == "add":
            machine = cluster.add_node(num_cpus=2, num_gpus=GPUS)
            found = machine.all_processes["raylet"][0].process.pid
            machines[found] = machine
            print(f"> {found}", flush=True)
        else:
            cluster.remove_node(machines.pop(int(pid[0])), allow_graceful=False)
            print("> lost", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()

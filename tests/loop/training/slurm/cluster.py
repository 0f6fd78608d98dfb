"""A real Slurm on this machine: a controller and two machines with two GPUs each that are only numbers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge=5
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
NodeName=a NodeHostname={host} NodeAddr=127.0.0.1 Port={a} CPUs=2 Gres=gpu:2 State=UNKNOWN
NodeName=b NodeHostname={host} NodeAddr=127.0.0.1 Port={b} CPUs=2 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=a,b Default=YES MaxTime=60 State=UP
"""
MACHINES = ("a", "b")


class SlurmCluster:
    """The daemons, which can be ended and started one by one."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "slurm.conf"
        ports = {name: _free_port() for name in ("controller", *MACHINES)}
        self.config.write_text(CONFIG.format(folder=folder, host=socket.gethostname(), **ports))
        for number in (0, 1):
            (folder / f"gpu{number}").touch()
        (folder / "gres.conf").write_text(f"NodeName=a,b Name=gpu File={folder}/gpu[0-1]\n")
        (folder / "state").mkdir()
        self.environment = os.environ | {"SLURM_CONF": str(self.config)}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.start("slurmctld")
        for name in MACHINES:
            (folder / f"spool-{name}").mkdir()
            self.start(name)
        deadline = time.monotonic() + 30
        while self.ask("sinfo", "-h", "-N", "-o", "%T").split() != ["idle"] * len(MACHINES):
            assert time.monotonic() < deadline, self.ask("sinfo")
            time.sleep(0.2)

    def start(self, name: str) -> None:
        """Start the controller, or the daemon of a machine."""
        command = ["slurmctld", "-D"] if name == "slurmctld" else ["slurmd", "-D", "-N", name]
        self._running[name] = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self, name: str) -> None:
        """End the controller, or at once a machine with its trainings, as if it had lost its power."""
        process = self._running.pop(name)
        for pid in _below(_steps(name)) if name != "slurmctld" else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if name == "slurmctld":
            process.terminate()  # it writes down which jobs there are
        else:
            process.kill()
        process.wait()

    def machine_of(self, pid: int) -> str:
        """The machine whose job a process belongs to."""
        return next(name for name in MACHINES if pid in _below(_steps(name)))

    def submit(self, script: str) -> None:
        """Submit a batch script, as whoever requeues a job does."""
        words = ["sbatch", "--output=/dev/null"]
        subprocess.run(words, input=script.encode(), env=self.environment, check=True, capture_output=True)

    def ask(self, *words: str) -> str:
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False).stdout

    def close(self) -> None:
        self.ask("scancel", "--user=root")
        for _ in range(50):
            if not self.ask("squeue", "-h"):
                break
            time.sleep(0.2)
        for name in list(self._running):
            self.kill(name)


@contextlib.contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """A cluster while the block runs, which this process may use. Skips the test where it cannot be had."""
    if not all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch")) or os.getuid() != 0:
        pytest.skip("Slurm is not installed, or this is not root: apt-get install slurm-wlm")
    cluster = SlurmCluster(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.config))
        try:
            yield cluster
        finally:
            cluster.close()


def _steps(machine: str) -> list[int]:
    """Processes that Slurm has started for jobs on a machine. A trainer does not have its variables."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"SLURMD_NODENAME={machine}".encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


def _below(roots: list[int]) -> set[int]:
    """These processes and all below them."""
    found = set(roots)
    for pid in roots:
        with contextlib.suppress(psutil.Error):
            found |= {process.pid for process in psutil.Process(pid).children(recursive=True)}
    return found


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

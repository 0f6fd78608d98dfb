"""kill -9 on a cluster, of engines, helpers, actors and machines: nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop.paths import RunPaths
from loop.records import journal, results
from loop.state import fold
from loop.training.supervisor import KEY
from tests.conftest import TRAINER, git, make_repository
from tests.e2e.fleet_engine import value
from tests.loop.training.ray.cluster import ray_cluster

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "tests.e2e.fleet_engine")
ALONE = f"""\
import fcntl, os, time
base, key = os.environ['TRITON_CACHE_DIR'], os.environ[{KEY!r}]
alone = open(base + '-' + key.split('-')[1], 'w')
for _ in range(60):
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
    except BlockingIOError:
        time.sleep(0.1)
else:
    raise SystemExit('its experiment trains twice at once')
with open(base + '-count', 'a') as file:
    file.write(key + '\\n')
"""
"""Crashes where another training of the same experiment goes on: one that was lost ends within seconds. Notes
each start. It is beside a compiler's cache, a place that a trainer may write to and that stays."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Fleet:
    """A repository whose engine uses a cluster, and is killed again and again."""

    def __init__(self, folder: Path, experiments: int, executor: str) -> None:
        self.folder, self.experiments, self.kind = folder, experiments, executor
        self.root = make_repository(folder / "repo", ALONE + TRAINER, "budget_s = 1.5\n")
        self.paths = RunPaths(self.root, "t")
        self.kills: Counter[str] = Counter()

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.e2e.fleet_engine",
                str(self.root),
                str(self.experiments),
                self.kind,
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.folder / "cache")},
        )

    def start_and_wait(self) -> subprocess.Popen[bytes]:
        """Start an engine; returns once it researches, or has ended."""
        before, engine = self.engines(), self.start()
        while engine.poll() is None and self.engines() == before:
            time.sleep(0.2)
        return engine

    def engines(self) -> int:
        """How many engines have begun to research."""
        if not self.paths.journal.exists():
            return 0
        return sum(isinstance(record.event, ev.EngineStarted) for record in journal.read(self.paths.journal))

    def kill(self, kind: str, found: list[psutil.Process], chance: random.Random) -> None:
        """Kill one of the processes, if there is one."""
        if found:
            with contextlib.suppress(psutil.Error):
                chance.choice(found).kill()
                self.kills[kind] += 1

    def rows(self) -> int:
        return fold(journal.read(self.paths.journal)).rows if self.paths.journal.exists() else 0

    def check(self, nodes: Path) -> None:
        """The end: what an undisturbed run leaves."""
        frame = results.read(self.paths.results).sort("val_bpb")
        numbers = range(2, self.experiments + 1)
        expected = [(6.0, "keep", "baseline")]
        expected += [(round(2 + (value(n) - 1) ** 2, 6), "discard", f"X to {value(n)}") for n in numbers]
        assert frame.select("val_bpb", "status", "description").rows() == expected
        assert git(self.root, "fsck", "--strict", "--no-dangling") == ""
        assert git(self.root, "status", "--porcelain") == "?? results.tsv"
        records = [record.event for record in journal.read(self.paths.journal)]
        ends = [(event.n, event.training) for event in records if isinstance(event, ev.TrainingFinished)]
        assert len(ends) == len(set(ends))
        assert [n for n, training in sorted(ends) if training == 1] == [1, *numbers]
        assert sorted(event.n for event in records if isinstance(event, ev.Judged)) == [1, *numbers]
        lost = [event for event in records if isinstance(event, ev.TrainingLost)]
        starts = [key for file in nodes.rglob("triton-count") for key in file.read_text().split()]
        assert len(set(starts)) <= len(ends) + len(lost)
        print(f"{dict(self.kills)}, {len(lost)} attempts lost, {len(starts)} starts, {self.experiments} rows")

    def left(self) -> list[psutil.Process]:
        """All living processes that belong to this run's trainings, whoever started them."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                key = process.environ().get(KEY, "")
                orders = str(self.folder) in " ".join(process.cmdline()) and "--leased" in process.cmdline()
                if key.startswith(self.paths.identity) or orders:
                    found.append(process)
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def below(root: int, words: str) -> list[psutil.Process]:
    """Living processes below one, with these words in their name or command line."""
    found = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(root).children(recursive=True):
            if words in f"{process.name()} {' '.join(process.cmdline())}":
                found.append(process)
    return found


def until_gone(look: Callable[[], list[psutil.Process]]) -> None:
    deadline = time.monotonic() + 30
    while found := look():
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


@pytest.mark.parametrize("kills", [100])
def test_a_hundred_kills_on_a_ray_cluster(tmp_path: Path, kills: int) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    fleet = Fleet(tmp_path, experiments=3 * kills, executor="ray")  # so that they do not end before the kills
    (tmp_path / "home").mkdir()
    with ray_cluster(tmp_path / "home") as cluster:
        machines, engine = list(cluster.raylets), fleet.start_and_wait()
        while sum(fleet.kills.values()) < kills and fleet.rows() < fleet.experiments:
            time.sleep(chance.uniform(0, 4))
            match chance.choice((*("engine",) * 3, *("helper",) * 2, *("worker",) * 2, "raylet")):
                case "engine":
                    fleet.kill("engine", [psutil.Process(engine.pid)], chance)
                    engine.wait()
                case "helper":
                    fleet.kill("helper", below(engine.pid, "training/ray/helper.py"), chance)
                case "worker":
                    fleet.kill("worker", below(os.getpid(), "ray::Worker"), chance)
                case "raylet" if fleet.kills["raylet"] < kills // 10:
                    cluster.lose(machines.pop(chance.randrange(len(machines))))
                    fleet.kills["raylet"] += 1
                    machines.append(cluster.add())
            if engine.poll() is not None:
                engine = fleet.start_and_wait()
        while engine.wait(1200) != 0:
            engine = fleet.start_and_wait()
        fleet.check(tmp_path / "home/state")
        until_gone(fleet.left)
        until_gone(lambda: below(os.getpid(), "ray::Worker"))
        until_gone(lambda: below(os.getpid(), "training/ray/helper.py"))
    assert sum(fleet.kills.values()) >= kills

"""kill -9, at every boundary of the journal and at any moment: nothing is lost, nothing happens twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop.paths import RunPaths
from loop.records import journal, results, training_folder
from loop.state import fold
from loop.training import supervisor
from tests.conftest import TRAINER, git, make_repository
from tests.e2e.killable import value

ROOT = Path(__file__).parents[2]
ONCE = 'rule = "improved"\nbaseline_runs = 1\n'
"""One run and one verdict for each experiment: easy to count."""
COUNTED = "import os\nwith open(os.environ['TRITON_CACHE_DIR'] + '-count', 'a') as f: f.write('run\\n')\n"
"""Counts its runs beside a compiler's cache: one of the few places that a trainer may write and that stay."""


class Victim:
    """A repository whose engine is killed again and again."""

    def __init__(self, folder: Path, experiments: int, budget_s: float, rules: str = ONCE) -> None:
        self.experiments, self.kills, self.rules = experiments, 0, rules
        self.root = make_repository(folder / "repo", COUNTED + TRAINER, f"budget_s = {budget_s}\n{rules}")
        self.paths = RunPaths(self.root, "t")
        self.count = self.paths.compiled / "triton-count"

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.killable", str(self.root), str(self.experiments), *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def survived(self) -> bool:
        """After a kill: the checkout is untouched, the journal whole but for its last line."""
        self.kills += 1
        assert git(self.root, "status", "--porcelain") in ("", "?? results.tsv")
        assert git(self.root, "branch", "--show-current") == "main"
        rows = results.lines(self.paths.results)[1:]
        assert len(rows) == len(set(rows)) <= self.experiments
        return fold(journal.read(self.paths.journal)).rows < self.experiments

    def training(self, targets: str) -> list[psutil.Process]:
        """The living supervisor (s) and its trainer (t), as far as they are targets."""
        found: list[psutil.Process] = []
        for path in self.paths.folder.glob("experiments/*/training-*"):
            if alive := supervisor.find(training_folder.TrainingFolder(path)):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(alive.pid)
                    found += process.children() if "t" in targets else []
                    found += [process] if "s" in targets else []
        return found

    def check(self) -> None:
        """The end: what an undisturbed run leaves."""
        best, expected = float("inf"), []
        for n in range(1, self.experiments + 1):
            bpb = round(1 + ((value(n) if n > 1 else 3.0) - 1) ** 2 + 1, 6)
            expected.append((bpb, "keep" if bpb < best else "discard", f"X to {value(n)}"))
            best = min(best, bpb)
        expected[0] = (*expected[0][:2], "baseline")
        frame = results.read(self.paths.results)
        assert list(zip(frame["val_bpb"], frame["status"], frame["description"], strict=True)) == expected
        assert git(self.root, "fsck", "--strict", "--no-dangling") == ""
        records = journal.read(self.paths.journal)
        for kind in (ev.Judged, ev.Logged):
            numbers = [r.event.n for r in records if isinstance(r.event, kind)]
            if kind is ev.Logged and self.rules != ONCE:
                numbers.remove(1)  # the baseline's second run writes its row anew
            assert numbers == list(range(1, self.experiments + 1))
        for n, commit in enumerate(frame["commit"], 1):
            ref = f"refs/autoresearch/t/{n:04d}"
            assert git(self.root, "rev-parse", "--short=7", ref) == commit
            assert f"status: {frame['status'][n - 1]}" in git(
                self.root, "notes", "--ref=autoresearch", "show", ref
            )
        kept = frame.filter(status="keep")["commit"][-1]
        assert git(self.root, "rev-parse", "--short=7", "autoresearch/t") == kept
        assert not list(self.paths.folder.rglob("*.tmp"))
        print(f"{self.kills} kills, {len(records)} records, {self.experiments} rows")


def at_every_boundary(folder: Path, experiments: int, *moments: str, rules: str = ONCE) -> Victim:
    """Die before or after the first decision an engine makes; the next one takes it from there."""
    victim = Victim(folder, experiments, 0.02, rules)
    for first in range(1, 4):  # RunCreated, EngineStarted and the first step of a new journal
        for when in moments:
            victim.start(when, str(first)).wait()
    alive = True
    while alive:
        for when in moments:
            assert victim.start(when, "2").wait() in (0, -signal.SIGKILL)
            alive = victim.survived()
    assert victim.start().wait() == 0
    victim.check()
    # Each trained once, adopted or read later; the default rules also measure the noise of the baseline.
    assert victim.count.read_text().count("run\n") == experiments + (rules != ONCE)
    return victim


def at_random(folder: Path, experiments: int, kills: int, seed: int) -> Victim:
    """Kill the engine, the supervisor, the trainer or several of them, any time after the start."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    victim = Victim(folder, experiments, budget_s=0.1)
    while victim.kills < kills:
        engine = victim.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(chance.uniform(0.15, 1.2))
        targets = chance.choice(("e", "e", "e", "es", "est", "s", "t"))
        for process in victim.training(targets):
            with contextlib.suppress(psutil.Error):
                process.kill()
        if "e" not in targets:
            time.sleep(chance.uniform(0, 0.3))
        engine.kill()
        engine.wait()
        if not victim.survived():
            break
    assert victim.start().wait() == 0
    victim.check()
    return victim


def test_a_kill_at_each_of_the_first_boundaries_changes_nothing(tmp_path: Path) -> None:
    assert at_every_boundary(tmp_path, 2, "after").kills >= 8


def test_nor_does_it_under_the_default_rules(tmp_path: Path) -> None:
    assert at_every_boundary(tmp_path, 2, "after", rules="").kills >= 10


def test_random_kills_change_nothing(tmp_path: Path) -> None:
    at_random(tmp_path, experiments=4, kills=6, seed=random.randrange(10**6))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_kill_at_every_boundary_of_a_longer_run_changes_nothing(tmp_path: Path) -> None:
    assert at_every_boundary(tmp_path, 12, "before", "after").kills >= 150


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(3))
def test_hundreds_of_random_kills_change_nothing(tmp_path: Path, part: int) -> None:
    assert at_random(tmp_path, experiments=120, kills=70, seed=random.randrange(10**6)).kills >= 40

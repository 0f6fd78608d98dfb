"""The real trackio, with its database in a temporary folder."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loop.tracking.world import World

pytest.importorskip("trackio", reason="pip install 'autoresearch-tui[trackio]'")
pytestmark = pytest.mark.slow

TRACK = """
import sys
from pathlib import Path
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.tracking.follow import Follower
from loop.tracking.tracker import Place, open_tracker
paths = RunPaths(Path(sys.argv[1]), "nov29")
follows = Follower("trackio", paths, Repository.discover(paths.root))
tracker = open_tracker("trackio", Place(paths.folder, "repo", "nov29"), {})
follows.read()
follows.sync(tracker)
tracker.close()
"""


def track(world: World, folder: Path) -> None:
    """In a process of its own: trackio reads TRACKIO_DIR once, when it is loaded."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TRACKIO_DIR": str(folder)}
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", TRACK, str(world.paths.root)], env=environ, cwd=root, check=True)


def test_an_experiment_is_a_run_with_curves_result_and_diff(world: World, tmp_path: Path) -> None:
    _, last = world.night()
    folder = tmp_path / "trackio"
    track(world, folder)
    world.progress(3, 20)
    world.finish(3, last, 1.03, "discard")
    track(world, folder)
    track(world, folder)
    with sqlite3.connect(folder / "repo.db") as database:
        rows = database.execute(
            "select run_name, step, cast(metrics as text) from metrics order by id"
        ).fetchall()
        configs = dict(database.execute("select run_name, cast(config as text) from configs").fetchall())
    steps = [step for name, step, metrics in rows if "-0003-" in name and "train/loss" in metrics]
    assert steps == [0, 10, 20]
    results = [metrics for name, _, metrics in rows if "-0002-" in name and "val_bpb" in metrics]
    assert len(results) == 1
    assert "+LR = 0.05" in results[0]
    (config,) = [text for name, text in configs.items() if "-0002-" in name]
    assert "better than luck" in config

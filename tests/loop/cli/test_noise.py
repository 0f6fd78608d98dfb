"""`autoresearch-tui noise` on a small trainer, with the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop.cli.noise import Measured, outlook, words
from loop.judging.rules import Rules
from tests.conftest import git, make_repository
from tests.loop.test_engine_confirmed import NOISY

COMMAND = [str(Path(sys.executable).with_name("autoresearch-tui")), "noise"]


def noise(root: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *flags], cwd=root, env={**os.environ}, capture_output=True, text=True, timeout=120
    )


def test_both_deviations_are_measured_and_nothing_of_the_user_changes(tmp_path: Path) -> None:
    saving = 'import os\nopen(os.environ["AUTORESEARCH_MODEL_FILE"], "w").write("model")\n'
    root = make_repository(tmp_path / "repo", NOISY + saving)
    done = noise(root, "--budget", "5", "--runs", "2")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("the code that is checked out (")
    assert lines[0].endswith("), 5 s a training, 4 trainings")
    seeds = [line.split("seed ")[1].split(":")[0] for line in lines[1:5]]
    assert seeds == ["1337", "1337", "1340", "1341"]
    same, others = (line for line in lines if line.startswith(("same seed:", "other seeds:")))
    assert "deviation 0.000000 (2 trainings)" in same
    assert "deviation 0.000000" not in others
    assert "time to the verdict, rule `confirmed`" in done.stdout
    assert git(root, "status", "--porcelain") == ""
    assert not list((root / ".autoresearch").rglob("model.pt"))
    again = noise(root, "--budget", "5", "--runs", "2")  # measured anew, not read again
    assert again.stdout.splitlines()[1:5] == lines[1:5]


@pytest.mark.parametrize(
    ("trainer", "flags", "reason"),
    [
        (NOISY, ["--runs", "1"], "--runs must be at least 2"),
        (NOISY, ["--tag", "none"], "no run none here"),
        ("raise SystemExit('broken')", [], "training 1 crashed: broken"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    trainer: str, flags: list[str], reason: str, tmp_path: Path
) -> None:
    done = noise(make_repository(tmp_path / "repo", trainer), *flags)
    assert done.returncode == 2
    assert done.stderr.startswith(f"autoresearch-tui: {reason}")
    assert done.stderr.count("\n") == 1


def test_a_larger_gain_is_kept_more_often_and_luck_seldom() -> None:
    shares = [outlook(multiple, Rules())[0] for multiple in (0, 1, 2, 3, 5)]
    assert shares == sorted(shares)
    assert shares[0] < 0.05
    assert shares[-1] > 0.95
    assert all(1 <= outlook(multiple, Rules())[1] <= 2 * Rules().max_runs for multiple in (0, 1, 5))


def test_a_trainer_without_noise_needs_no_table() -> None:
    assert words(Measured([1.0, 1.0], [1.0, 1.0], 3.0), "val_bpb", Rules()).endswith(
        "Trainings repeat exactly, whatever the seed: any gain is kept after one."
    )

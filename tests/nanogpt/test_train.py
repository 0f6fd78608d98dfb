"""train.py keeps the trainer's contract and is deterministic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop import progress

ROOT = Path(__file__).parents[2]


def run(cache: Path, result: Path, **environment: str) -> tuple[str, dict[str, float]]:
    """Train for two steps; the log and what the evaluator handed over."""
    given = {
        "AUTORESEARCH_CACHE": str(cache),
        "AUTORESEARCH_MAX_STEPS": "2",
        "AUTORESEARCH_RESULT": str(result),
        "OMP_NUM_THREADS": "1",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "nanogpt/train.py")],
        env=given | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(result.read_text())


def test_the_contract_is_kept_and_the_same_run_gives_the_same_number(cache: Path, tmp_path: Path) -> None:

    log, first = run(cache, tmp_path / "a")
    _, again = run(cache, tmp_path / "b")
    assert first["val_bpb"] == pytest.approx(again["val_bpb"], abs=1e-5)
    assert log.startswith("phase: starting\n")
    steps = [found for line in log.splitlines() if (found := progress.parse(line))]
    assert steps[-1].step == 2
    assert steps[-1].fraction == 1.0
    assert steps[-1].loss
    summary = progress.parse_summary(log)
    assert summary["val_bpb"] == pytest.approx(first["val_bpb"], abs=1e-6)
    for name in ("training_seconds", "total_seconds", "peak_vram_mb", "total_tokens_M", "num_params_M"):
        assert isinstance(summary[name], float)
    assert summary["num_steps"] == 2
    assert f"data: {first['data']}" in log

"""train.py keeps the trainer's contract and is deterministic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop.training import progress

ROOT = Path(__file__).parents[2]


def run(cache: Path, result: Path, **environment: str) -> tuple[str, dict[str, float]]:
    """Train for five steps, two of them with counts; the log and what the evaluator handed over."""
    given = {
        "AUTORESEARCH_CACHE": str(cache),
        "AUTORESEARCH_MAX_STEPS": "5",
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
    assert steps[-1].step == 5
    assert steps[-1].fraction == 1.0
    assert steps[-1].loss
    summary = progress.parse_summary(log)
    assert summary["val_bpb"] == pytest.approx(first["val_bpb"], abs=1e-6)
    for name in ("training_seconds", "total_seconds", "peak_vram_mb", "total_tokens_M", "num_params_M"):
        assert isinstance(summary[name], float)
    assert summary["num_steps"] == 5
    assert f"data: {first['data']}" in log


LARGE = """
import math, torch, train
assert train.LARGE
with torch.device("meta"):
    model = train.GPT(8192, 2048, 0)
    optimizer = train.MuonAdamW(model)
    tokens = torch.zeros(2, 2048, dtype=torch.long)
assert 1e8 < sum(p.numel() for p in model.parameters()) < 2e9
assert train.memory_bytes(model, train.rows_at_once(model, 0.85 * 80e9)) < 0.85 * 80e9
assert model(tokens).shape == (2, 2048, 8192)
model.loss(tokens, tokens).backward()
assert all(p.grad is not None for p in model.parameters())
optimizer.step(1.0, 0.5)

# The same model, made small, learns on this machine.
train.DEPTH, train.WIDTH, train.HEAD_DIM, train.NGRAM_ROWS, train.ROWS = 3, 64, 16, 512, 4
torch.manual_seed(0)
model = train.GPT(256, 64, 0)
optimizer = train.MuonAdamW(model)
tokens = (torch.arange(64).repeat(4, 1) * torch.tensor([[1], [3], [5], [7]])) % 256
losses = []
for step in range(12):
    model.zero_grad()
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    optimizer.step(1.0, 0.0)
    losses.append(float(loss.detach()))
assert abs(losses[0] - math.log(256)) < 0.01, losses
assert losses[-1] < losses[0] - 1, losses
changed = tokens.clone()
changed[:, 40:] += 1
with torch.no_grad():
    assert torch.allclose(model(tokens)[:, :40], model(changed % 256)[:, :40], atol=1e-4)
"""


def test_the_large_profile_takes_a_step_without_memory_and_learns_when_small() -> None:
    """Windows, value embeddings, n-gram tables, softcap: what the CPU profile leaves out."""
    environment = {
        "PYTHONPATH": str(ROOT / "nanogpt"),
        "AUTORESEARCH_PROFILE": "h100",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-c", LARGE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_describe_tells_sizes_without_training() -> None:
    command = [sys.executable, str(ROOT / "nanogpt/train.py"), "--describe", "--profile", "h100"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for word in ("blocks:", "n-gram tables:", "FLOPs per token:", "memory:", "tokens:"):
        assert word in log

"""Shared by all rooms' tests: a research repository whose trainer only keeps the contract."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared", deadline=None)  # machines are shared: slow is not wrong
settings.load_profile("shared")

TRAINER = '''\
"""Minimises a quadratic and prints what the contract asks for."""
import os
import time

X = 3.0  # where we stand [0.1, 10.0]
Y = 2.0
STEPS = 4

budget = float(os.environ["AUTORESEARCH_BUDGET_S"])
print("phase: training", flush=True)
for step in range(STEPS):
    done = (step + 1) / STEPS
    left = budget * (1 - done)
    print(f"step {step:05d} ({100 * done:.1f}%) | loss: {3 - done:.4f} | remaining: {left:.2f}s", flush=True)
    time.sleep(budget / STEPS)
print("---")
print(f"val_bpb: {1 + (X - 1) ** 2 + (Y - 1) ** 2:.6f}")
print(f"training_seconds: {budget}")
print("peak_vram_mb: 512")
'''


def git(folder: Path, *words: str) -> str:
    """Run git in a folder and return what it prints."""
    return subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def make_repository(folder: Path, trainer: str = TRAINER, config: str = "") -> Path:
    """A committed research repository: train.py, autoresearch.toml and a file of the user's own."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Someone")
    git(folder, "config", "user.email", "someone@localhost")
    (folder / "train.py").write_text(trainer)
    (folder / "notes.txt").write_text("mine\n")
    (folder / "autoresearch.toml").write_text(
        'train_command = ["{python}", "train.py"]\neditable = ["train.py"]\n' + (config or "budget_s = 0.2\n")
    )
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "start")
    return folder


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of runs is not the user's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A research repository in a temporary folder, with sockets in a temporary folder too."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # holds what is trusted
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "AUTORESEARCH_AGENT"):
        monkeypatch.delenv(name, raising=False)
    return make_repository(tmp_path / "repo")

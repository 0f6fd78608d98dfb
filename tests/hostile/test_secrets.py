"""No secret of the engine's environment is in any file that a run leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop.cli.__main__ import main
from tests.conftest import TRAINER, git, make_repository

SECRETS = {
    "ANTHROPIC_API_KEY": "sk-ant-planted-1",
    "OPENAI_API_KEY": "sk-planted-2",
    "HF_TOKEN": "hf_planted_3",
    "WANDB_API_KEY": "planted-4",
    "GITHUB_TOKEN": "ghp_planted5",
    "AWS_SECRET_ACCESS_KEY": "planted/6",
    "DATABASE_PASSWORD": "planted-7",
    "AUTORESEARCH_NOTIFY": "json://127.0.0.1:9/planted-8",
    "MLFLOW_TRACKING_URI": "http://someone:planted-10@127.0.0.1:9",
    "CUDA_SECRET": "planted-11",
    "AUTORESEARCH_TOKEN": "planted-12",
}
"""The last two begin like variables that a trainer inherits."""
TELLTALE = TRAINER + "for pair in os.environ.items():\n    print(*pair)\n"
"""It prints its whole environment into its log."""


def test_no_secret_is_in_a_file_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_repository(tmp_path / "repo", TELLTALE)
    monkeypatch.chdir(root)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    words = ["run", "--headless", "--tag", "t", "--agent", "search", "--max-experiments", "1"]
    assert main([*words, "--baseline-runs", "1", "--budget", "0.2"]) == 0
    (spec,) = (root / ".autoresearch/t").rglob("spec.json")
    assert b"AUTORESEARCH_BUDGET_S" not in spec.read_bytes()  # nor any other variable
    (log,) = (root / ".autoresearch/t").rglob("run.log")
    assert "AUTORESEARCH_BUDGET_S" in log.read_text()
    git(root, "repack", "-adq")  # so that objects, which are packed, are looked at too
    found = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(found) > 20
    for path in found:
        assert b"planted" not in path.read_bytes(), path
    everything = git(root, "log", "--all", "-p", "--format=fuller")
    assert "experiment: t #1" in everything
    assert "planted" not in everything
    assert os.environ["HF_TOKEN"] == SECRETS["HF_TOKEN"]

"""Whoever starts this in a repository of their own is asked at most once, whatever they do then."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TRAINER, make_repository

OWN = """
prepare_command = ["{python}", "-c", "open('prepared', 'w')"]
data = ["~/texts"]
network = true
"""
FIRST = ["run", "--headless", "--tag", "t", "--agent", "search", "--baseline-runs", "1"]


def asked(root: Path, home: Path, words: list[str], answer: bytes) -> int:
    """How often a command asks on a terminal, where each question gets this answer."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    process = subprocess.Popen(
        [sys.executable, "-m", "loop.cli", *words],
        cwd=root, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    os.close(theirs)
    said, count = b"", 0
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so when nobody has the terminal any more
            break
        if not piece:
            break
        said += piece
        if said.count(b"[y/N]") > count:
            count += 1
            os.write(ours, answer)
    os.close(ours)
    assert process.wait(60) in (0, 1), said.decode()
    return count


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_own_settings_are_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = make_repository(tmp_path / "repo", TRAINER, f"budget_s = 0.2\n{OWN}")
    commands = [
        ["doctor"],
        ["prepare"],
        [*FIRST, "--max-experiments", "1"],
        [*FIRST, "--max-experiments", "2"],
        ["prepare"],
        ["status"],
        ["doctor"],
        ["logs"],
        ["report"],
    ]
    counts = [asked(root, tmp_path, words, b"y\n") for words in commands]
    assert counts == [0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert len((root / "results.tsv").read_text().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_asked_where_nothing_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = make_repository(tmp_path / "repo", TRAINER, "budget_s = 0.2\n")
    commands = [["doctor"], [*FIRST, "--max-experiments", "1"], ["status"]]
    assert [asked(root, tmp_path, words, b"y\n") for words in commands] == [0, 0, 0]

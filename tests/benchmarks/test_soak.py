"""The soak ends: engines that die at their start do not do so for ever."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from benchmarks import soak


def test_engines_that_die_at_their_start_end_the_soak_and_each_has_its_own_luck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    luck: list[float] = []

    def die(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        assert len(luck) < 100, "it goes on for ever"
        luck.append(soak.Life(tmp_path, 20, soak.read_happened(tmp_path)).chance.random())
        return subprocess.CompletedProcess(words, -signal.SIGKILL)

    monkeypatch.setattr(soak, "make_repository", lambda *_: None)
    monkeypatch.setattr(subprocess, "run", die)
    with pytest.raises(RuntimeError, match="20 engines have died"):
        soak.run(tmp_path, 20)
    assert len(set(luck)) == len(luck) == 20

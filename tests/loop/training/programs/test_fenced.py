"""The program that starts another one behind a fence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from loop.training.programs import fenced

NO_FENCE = {"on": False, "file_bytes": 4096}


def start(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", fenced.__file__, json.dumps(NO_FENCE), *words]
    return subprocess.run(command, capture_output=True, text=True, input="in\n", timeout=60, check=False)


def test_the_command_takes_its_place_and_its_streams() -> None:
    done = start("sh", "-c", "cat; exit 3")
    assert (done.returncode, done.stdout) == (3, "in\n")


def test_it_is_behind_the_fence(tmp_path: Path) -> None:
    done = start("sh", "-c", f"head -c 10000 /dev/zero > {tmp_path}/big")
    assert done.returncode != 0
    assert (tmp_path / "big").stat().st_size <= 4096


def test_what_cannot_be_started_is_said() -> None:
    done = start("no-such-program")
    assert done.returncode == 1
    assert "cannot start behind the fence" in done.stderr

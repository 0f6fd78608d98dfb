"""The program that starts another one behind a fence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from loop.training import fence
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


LIMITED = """
import os, resource, sys
for name, most in (("NPROC", 4000), ("SIGPENDING", 400), ("NOFILE", 2000)):
    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
os.execv(sys.argv[1], sys.argv[1:])
"""
PRINTS = """
import resource
names = ("NPROC", "SIGPENDING", "NOFILE", "RTPRIO", "NICE")
print(*(resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in names))
"""


def test_of_what_a_user_may_have_something_is_left_to_his_other_programs() -> None:
    """The kernel counts for all of them together: without that the engine could start no thread any more."""
    around = fence.build(fence.detect(), os.environ, command=["x"], data=[], write=[])
    words = ["-I", "-S", fenced.__file__, msgspec.json.encode(around).decode(), sys.executable, "-c", PRINTS]
    command = [sys.executable, "-c", LIMITED, sys.executable, *words]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == ["3000", "300", "1500", "0", "0"]

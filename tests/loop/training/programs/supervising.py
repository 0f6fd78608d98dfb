"""How tests start a supervisor, and wait for what it does."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from loop.training.programs import group, supervise

PROGRAM = [sys.executable, "-I", "-S", str(Path(supervise.__file__))]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@functools.cache
def has_groups() -> bool:
    """Whether this user may make a control group here."""
    code = "import sys; sys.path.append(sys.argv[1]); import group; print(group.Group()._at is not None)"
    words = [sys.executable, "-I", "-S", "-c", code, str(Path(group.__file__).parent)]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    group.end_abandoned()
    return found == "True\n"

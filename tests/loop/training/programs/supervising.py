"""How tests start a supervisor, and wait for what it does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from loop.training.programs import supervise

PROGRAM = [sys.executable, "-I", "-S", str(Path(supervise.__file__))]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

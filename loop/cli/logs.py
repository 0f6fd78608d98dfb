"""`autoresearch-tui logs [-f]`: prints a line for each step of the run, read from its journal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from loop.cli.status import Lines
from loop.errors import UNREADABLE
from loop.paths import RunPaths
from loop.records.journal import Follow, decode

EVERY_S = 0.3
"""How often to look for new records."""


def show(paths: RunPaths, stream: TextIO, follow: bool, engine_runs: Callable[[RunPaths], bool]) -> None:
    """Print all steps so far; with `follow` also those to come, until `engine_runs` says that none can."""
    said, journal = Lines(stream), Follow(paths.journal)
    while True:
        more = follow and engine_runs(paths)  # asked before reading: else its last records could be missed
        for line in journal.lines():
            try:
                said.say(decode(line))
            except UNREADABLE:
                print("(a record of another version)", file=stream)
        if not more:
            return
        time.sleep(EVERY_S)

"""`autoresearch-tui logs [-f]`: the run's steps, a line each, from its journal; an engine is not needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

import msgspec

from loop.cli.status import Lines
from loop.paths import RunPaths
from loop.records.journal import decode

EVERY_S = 0.3


def show(paths: RunPaths, stream: TextIO, follow: bool, alive: Callable[[RunPaths], bool]) -> None:
    """Print what there is, and with `follow` what comes, until no engine runs any more."""
    lines, rest = Lines(stream), b""
    with paths.journal.open("rb") as journal:
        while True:
            more = follow and alive(paths)  # asked before reading: last words are not missed
            *whole, rest = (rest + journal.read()).split(b"\n")
            for line in whole:
                try:
                    lines.say(decode(line))
                except msgspec.DecodeError:
                    print("(a record of another version)", file=stream)
            if not more:
                return
            time.sleep(EVERY_S)

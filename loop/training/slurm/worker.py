"""A program that keeps a place that Slurm gave, and carries out one order after another there.

    python -P -m loop.training.slurm.worker FOLDER

`FOLDER` is shared with the engine and holds a folder for each order. Whoever makes an order's `claim` first
carries it out. The program ends when there was nothing to do for a while, or on SIGTERM, with the training
under way.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from loop.training.remote.order import OrderFolder

LOOK_S = 0.5
"""How often orders are looked for."""
IDLE_S = 600.0
"""After so long without an order the place is given back."""


def main(words: list[str]) -> None:
    folder, idle_s = Path(words[0]), float(words[1]) if len(words) > 1 else IDLE_S
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    waiting_since = time.monotonic()
    while time.monotonic() < waiting_since + idle_s:
        for order in waiting(folder):
            carry_out(order)
            waiting_since = time.monotonic()
        time.sleep(LOOK_S)


def waiting(folder: Path) -> Iterator[Path]:
    """Folders of orders that nobody has claimed, the oldest first."""
    found = folder.glob("[!.]*/order.json")
    orders = [path for path in found if not OrderFolder(path.parent).claim.exists()]
    for path in sorted(orders, key=lambda path: path.stat().st_mtime if path.exists() else 0.0):
        yield path.parent


def carry_out(folder: Path) -> None:
    """Carry out one order, unless somebody else claims it first. It ends when this process does."""
    command = [sys.executable, "-P", "-m", "loop.training.remote.node", str(folder), "--leased"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Trains code that leaves hostile files wherever it may write, and then code that leaves nothing.

    python -m tests.hostile.leaving FOLDER

prints as JSON what became of the experiments. It is a program, so that a test can let another user run it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from loop.agents.base import Proposal, ResearchContext
from tests.conftest import TRAINER, make_repository
from tests.loop.scripted import Bench, ScriptedAgent

FILES = """
import os, socket
def leave():
    os.mkfifo('pipe')
    os.mkdir('closed', 0o300)
    open('closed/file', 'w').close()
    os.mkdir('closed/inner', 0)
    os.mkdir('locked', 0o100)
    os.mkdir('nothing', 0)
    os.symlink('/dev/zero', 'endless')
    os.symlink('loop', 'loop')
    os.symlink('/etc', 'etc')
    open('sparse', 'wb').truncate(40 << 20)
    os.close(os.open('secret', os.O_CREAT | os.O_WRONLY, 0))
    for name in (b'two\\nlines', b'\\x1b]0;owned\\x07', b'\\xff\\xfe', b'-rf', b'x' * 255):
        open(name, 'w').close()
    socket.socket(socket.AF_UNIX).bind('s')
    here = os.getcwd()
    for _ in range(150):
        os.mkdir('deep' * 60)
        os.chdir('deep' * 60)
    os.chdir(here)
out = os.path.dirname(os.environ['AUTORESEARCH_MODEL_FILE'])
slot = os.getcwd()
places = [slot, out, os.environ['TMPDIR'], os.environ['HOME'], os.environ['TORCHINDUCTOR_CACHE_DIR']]
for place in places:
    os.makedirs(place, exist_ok=True)
    os.chdir(place)
    leave()
os.chdir(out)
os.mkfifo(os.environ['AUTORESEARCH_MODEL_FILE'])
os.chdir(slot)
os.unlink('notes.txt')
os.mkfifo('notes.txt')
os.unlink('train.py')
os.mkdir('train.py', 0)
"""
DEEP = """
import os
here = os.getcwd()
for _ in range(400):
    os.mkdir('d')
    os.chdir('d')
os.chdir(here)
import time
time.sleep(30)
"""


def run(folder: Path) -> list[tuple[str, str]]:
    """Phase and reason of each experiment: what leaves files, what makes deep folders, and what does not."""
    config = "budget_s = 0.1\ndisk_gb = 1.0\nmemory_gb = 2.0\n"
    root = make_repository(folder / "repo", TRAINER, config)
    before = ["", "", FILES, DEEP, ""]

    def propose(context: ResearchContext) -> Proposal:
        return Proposal(f"idea {context.n}", f"{before[context.n]}\n{TRAINER.replace('X = 3.0', 'X = 2.0')}")

    bench = Bench(
        root, ScriptedAgent(propose), rule="improved", baseline_runs=1, audit="report", max_experiments=4,
        fix_attempts=0, max_crashes=10,
    )  # fmt: skip
    asyncio.run(asyncio.wait_for(bench.run(), 100))
    return [(e.phase, e.reason) for e in bench.engine.state.experiments]


if __name__ == "__main__":
    os.environ["XDG_RUNTIME_DIR"] = sys.argv[1]
    os.environ["TMPDIR"] = sys.argv[1]
    print(json.dumps(run(Path(sys.argv[1]))))

"""Lets a judge measure candidates, one of which spies, and prints what became of them.

    python -m tests.hostile.judging FOLDER

It is a program, so that a test can let another user run it.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path

from loop.agents.base import Proposal, ResearchContext
from tests.loop.judged import make_judged
from tests.loop.scripted import Bench, ScriptedAgent

SPY = """
found = []
for path in ("../../engine.json", os.path.expanduser("~/key"), f"/proc/{os.getppid()}/environ"):
    try:
        found.append(open(path).read())
    except OSError:
        pass
print("stole", len(found), flush=True)
"""
"""Code of a candidate that tries to read what is outside."""


def run(folder: Path) -> dict[str, object]:
    """Value of each experiment and whether it was measured; what was stolen, and what others may read."""
    root = make_judged(folder / "repo")
    (folder / "key").write_text("precious")

    def propose(context: ResearchContext) -> Proposal:
        changed = context.source.replace("X = 3.0", f"X = {3.0 - context.n / 2}")
        return Proposal(f"idea {context.n}", changed + (SPY if context.n == 3 else ""))

    bench = Bench(
        root, ScriptedAgent(propose), rule="improved", baseline_runs=1, audit="report", max_experiments=3,
        fix_attempts=0,
    )  # fmt: skip
    asyncio.run(asyncio.wait_for(bench.run(), 150))
    ended = [
        (e.value, [bool(t.finished and t.finished.verified) for t in e.trainings])
        for e in bench.engine.state.experiments
    ]
    home = root / ".autoresearch"
    open_to_others = [
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.is_file() and "slots" not in path.parts and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    logs = [path.read_text() for path in home.rglob("run.log")]
    return {
        "ended": ended,
        "stolen": [line for log in logs for line in log.splitlines() if line.startswith("stole")],
        "closed": stat.S_IMODE((root / ".autoresearch").stat().st_mode),
        "open": open_to_others,
    }


if __name__ == "__main__":
    os.environ["XDG_RUNTIME_DIR"] = sys.argv[1]
    os.environ["TMPDIR"] = sys.argv[1]
    print(json.dumps(run(Path(sys.argv[1]))))

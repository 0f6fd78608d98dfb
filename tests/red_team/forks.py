"""Trains one script after the other, each in a fork of a process that has already imported torch.

    python forks.py JOBS.json

This saves the seconds that each import of torch takes. A job is a script (it runs in its own folder), its
environment and its log. Exit code and times go to `exit.json` beside the log, in the form in which the
engine's supervisor writes them.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def run(job: dict[str, Any]) -> None:
    """Run the script of this job as a program of its own; never returns. Called in the forked child."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(job["env"])
    os.chdir(Path(job["script"]).parent)
    sys.path.insert(0, str(Path(job["script"]).parent))
    sys.argv = [job["script"]]
    code: object = 0
    try:
        runpy.run_path(job["script"], run_name="__main__")
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 0)


def main(jobs: str) -> None:
    """Run all jobs of a file."""
    import torch

    torch.set_num_threads(1)
    for job in json.loads(Path(jobs).read_text()):
        started = time.time()
        pid = os.fork()
        if pid == 0:
            run(job)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        outcome, reason = ("crashed", f"exit code {code}") if code else ("finished", "")
        report = {
            "outcome": outcome,
            "reason": reason,
            "exit_code": code,
            "started": started,
            "ended": time.time(),
        }
        Path(job["log"]).with_name("exit.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])

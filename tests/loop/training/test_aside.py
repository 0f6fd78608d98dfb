"""A program of the repository runs aside from the trainings, and its lines are told as they come."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import pytest

from loop import config
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.training import aside
from loop.training.supervisor import Standby
from tests.conftest import git

CODE = """\
import os, socket, sys, time
print("one", flush=True)
time.sleep(0.5)
try:
    socket.socket()
except OSError as error:
    print(type(error).__name__, flush=True)
open(os.path.join(os.environ["TMPDIR"], "made"), "w").write("x")
sys.stdout.write("no newline")
"""


async def run(repository: Repository, paths: RunPaths, said: list[str]) -> tuple[TrainingFolder, list[bool]]:
    settings = config.load(repository, repository.head(), {}, os.environ)
    made: list[bool] = []
    files = await aside.run(
        settings, paths, repository, repository.head(), [sys.executable, "program.py"],
        name="trial", timeout_s=60, read=[], say=said.append,
        finish=lambda scratch: made.append((scratch / "made").exists()),
    )  # fmt: skip
    return files, made


async def test_lines_are_told_and_what_it_made_is_there_until_the_end(repository: Path) -> None:
    (repository / "program.py").write_text(CODE)
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "program")
    found, paths, said = Repository.discover(repository), RunPaths(repository, "t"), list[str]()
    paths.create()
    files, made = await run(found, paths, said)
    assert said == ["one", "PermissionError", "no newline"]
    assert made == [True]
    assert not paths.scratch("trial").exists()
    ended = files.read_exit(found.head())
    assert ended is not None
    assert ended.outcome == "finished"
    held = Standby(paths.folder / "trial/lock")
    try:
        fcntl.flock(held._held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another trial of this run is under way"):
            await run(found, paths, said)
    finally:
        held.dismiss()

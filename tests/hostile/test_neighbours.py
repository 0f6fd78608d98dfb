"""What one training does to the next one, and to one that runs beside it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from loop.records.training_folder import Exit, Spec, TrainingFolder
from loop.training import fence, supervisor
from tests.hostile import users

SUPPORT = fence.detect()

pytestmark = pytest.mark.skipif(SUPPORT.landlock < 6 or not SUPPORT.seccomp, reason=f"the fence is {SUPPORT}")

PASSES = """
import os, resource, socket, time
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept, opened = [], os.open("train.py", os.O_RDONLY)
try:
    while len(kept) < 2 * most:
        kept.append(socket.socketpair())
        kept[-1][0].setblocking(False)
        try:
            while True:
                socket.send_fds(kept[-1][0], [b"x"], [opened] * 250)
        except BlockingIOError:
            pass
except OSError as error:
    print("full:", error, flush=True)
time.sleep(60)
"""
"""Has as many files on their way through sockets as the kernel lets it have."""


def start(folder: Path, code: str) -> tuple[TrainingFolder, supervisor.Supervisor]:
    slot, scratch = folder / "slot", folder / "s"
    slot.mkdir(parents=True)
    (slot / "train.py").write_text(code)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    variables = fence.make_fresh_folders(scratch, cache=folder / "c", data=[], environ=environment)
    files, command = TrainingFolder(folder / "run"), [sys.executable, "train.py"]
    around = fence.build(SUPPORT, environment, command=command, data=[], write=[slot, scratch])
    spec = Spec(
        command, str(slot), {**environment, **variables}, str(files.log), str(files.exit),
        str(files.supervisor), 60, commit="c", fence=around, folders=[str(slot)],
    )  # fmt: skip
    return files, supervisor.Standby(folder / "lock").start(files, spec)


async def beside(folder: Path) -> Exit | None:
    """How a training ended that was started beside one that passes files on."""
    files, hostile = start(folder / "hostile", PASSES)
    try:
        async with asyncio.timeout(20):
            while "full" not in files.end_of_log():  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.01)
        plain, started = start(folder / "plain", "print('hi')")
        await supervisor.ended(started)
        return plain.read_exit("c")
    finally:
        await supervisor.stop(files, hostile)


def test_files_on_their_way_through_sockets_do_not_keep_another_training_from_its_start() -> None:
    """The kernel counts them for all programs of a user together: the next fence could not be set up."""
    with users.folder() as folder:
        found = asyncio.run(beside(folder))
        assert found
        assert (found.outcome, found.reason) == ("finished", "")

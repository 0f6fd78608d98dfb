"""Connecting Unix sockets for a trainer whose filter asks: its own ones, and nobody else's."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.records.training_folder import Fence, Spec, TrainingFolder
from loop.training import fence, supervisor
from loop.training.programs import broker

pytestmark = pytest.mark.skipif(not fence.detect().seccomp, reason="this kernel cannot filter system calls")

TRAINER = """\
import os, socket, threading
INSIDE, OUTSIDE = {inside!r}, {outside!r}
server = socket.socket(socket.AF_UNIX)
server.bind(INSIDE + "/own")
server.listen()
def answer():
    while True:
        server.accept()[0].send(b"hello")
threading.Thread(target=answer, daemon=True).start()
os.symlink(OUTSIDE, INSIDE + "/link")
os.symlink(os.path.dirname(OUTSIDE), INSIDE + "/folder")
os.chdir(INSIDE)
WHERE = dict(
    own=INSIDE + "/own", relative="own", outside=OUTSIDE, link="link", folder="folder/outside",
    above="../outside", abstract="\\0abstract", missing=INSIDE + "/missing",
)
for name, address in WHERE.items():
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(address)
        print(name, client.recv(10).decode())
    except OSError as error:
        print(name, type(error).__name__)
"""


@pytest.fixture(scope="module")
def said() -> Iterator[dict[str, str]]:
    """What each connection gave, by name, and under `heard` whether the socket outside was reached."""
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as outside:
        folder = Path(name)
        inside = folder / "inside"
        inside.mkdir()
        outside.bind(str(folder / "outside"))
        outside.listen()
        outside.setblocking(False)
        files = TrainingFolder(folder / "run")
        (inside / "train.py").write_text(TRAINER.format(inside=str(inside), outside=str(folder / "outside")))
        # Landlock is off: only the broker stands between the trainer and the socket.
        around = Fence(on=True, landlock=0, seccomp=True, write=[str(inside)])
        spec = Spec(
            command=[sys.executable, "train.py"],
            cwd=str(inside),
            env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
            log=str(files.log),
            exit=str(files.exit),
            supervisor=str(files.supervisor),
            timeout_s=30,
            commit="c",
            fence=around,
        )
        started = supervisor.Standby(folder / "lock").start(files, spec)
        os.waitpid(started.pid, 0)
        found = dict(line.split(maxsplit=1) for line in files.end_of_log().splitlines())
        try:
            outside.accept()
            found["heard"] = "yes"
        except BlockingIOError:
            found["heard"] = "no"
        yield found


@pytest.mark.parametrize("name", ["own", "relative"])
def test_a_trainer_reaches_its_own_sockets(said: dict[str, str], name: str) -> None:
    assert said[name] == "hello"


@pytest.mark.parametrize("name", ["outside", "link", "folder", "above", "abstract"])
def test_a_trainer_reaches_no_other_socket(said: dict[str, str], name: str) -> None:
    assert said[name] == "PermissionError"


def test_a_socket_that_is_not_there_is_said_to_be_missing(said: dict[str, str]) -> None:
    assert said["missing"] == "FileNotFoundError"


def test_nobody_outside_was_connected_to(said: dict[str, str]) -> None:
    assert said["heard"] == "no"


def test_what_is_no_socket_is_not_kept_open(tmp_path: Path) -> None:
    """A trainer could have the supervisor open as many files as it may, so that it saw nothing any more."""
    with (tmp_path / "file").open("w") as file:
        opened = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="Socket operation on non-socket"):
            broker._taken(os.getpid(), file.fileno())
        assert len(os.listdir("/proc/self/fd")) == opened


def test_a_socket_of_another_process_can_be_connected_here() -> None:
    """`_taken` duplicates a socket: what is done to the copy is done to the original."""
    ours, theirs = socket.socketpair()
    with ours, theirs, broker._taken(os.getpid(), theirs.fileno()) as copy:
        copy.send(b"x")
        assert ours.recv(1) == b"x"

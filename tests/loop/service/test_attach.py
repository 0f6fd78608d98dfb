"""Finding the engine of a run and connecting to it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from loop import __version__
from loop.client import ConnectionLost
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.service import attach
from loop.service.attach import EngineInfo
from loop.service.server import Server
from tests.loop.scripted import Bench, ScriptedAgent

HOLD = """
import sys; from pathlib import Path; from loop.paths import RunPaths; from loop.service import attach
with attach.lock(RunPaths(Path(sys.argv[1]), "t")):
    print("held", flush=True); sys.stdin.read()
"""


def test_the_lock_says_that_an_engine_runs_and_goes_with_its_process(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    assert not attach.engine_runs(paths)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(repository)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert attach.engine_runs(paths)
        paths.info.write_bytes(msgspec.json.encode(EngineInfo(holder.pid, __version__, "/nowhere")))
        with pytest.raises(UsageError, match=rf"is running already \(pid {holder.pid}\)"), attach.lock(paths):
            pass
        holder.kill()
        holder.wait()
        assert not attach.engine_runs(paths)
    with attach.lock(paths):
        assert attach.engine_runs(paths)
    assert not attach.engine_runs(paths)


def test_whoever_only_asks_does_not_keep_an_engine_from_starting(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    with attach.lock(paths):
        pass
    reader = paths.lock.open("rb")
    fcntl.flock(reader, fcntl.LOCK_SH)  # what `engine_runs` holds for a moment
    threading.Timer(0.3, reader.close).start()
    with attach.lock(paths):
        assert reader.closed
        assert attach.engine_runs(paths)
    assert stat.S_IMODE(paths.lock.stat().st_mode) == 0o600


def test_engine_json_that_cannot_be_read_tells_nothing(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    paths.create()
    assert attach.info(paths) is None
    paths.info.write_text('{"pid": 1')
    assert attach.info(paths) is None
    paths.info.write_text('{"pid": 1, "version": "2", "socket": "/s"}')
    assert attach.info(paths) == EngineInfo(1, "2", "/s")


async def test_no_engine_is_not_waited_for(repository: Path) -> None:
    with pytest.raises(ConnectionLost, match="no engine runs for t"):
        await attach.connect(RunPaths(repository, "t"))


async def test_an_engine_of_another_version_is_named_with_the_way_to_stop_it(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    with attach.lock(paths):
        paths.info.write_bytes(msgspec.json.encode(EngineInfo(1234, "99.0", "/nowhere")))
        with pytest.raises(UsageError, match="stop it with `kill 1234`"):
            await attach.connect(paths)


async def test_an_engine_that_is_still_starting_is_waited_for(repository: Path) -> None:
    bench = Bench(repository, ScriptedAgent())
    server = Server(bench.paths.socket())
    with attach.lock(bench.paths):
        connecting = asyncio.create_task(attach.connect(bench.paths))
        await asyncio.sleep(0.1)
        assert not connecting.done()
        await server.open(bench.engine)
        found = EngineInfo(os.getpid(), __version__, str(server.path))
        bench.paths.info.write_bytes(msgspec.json.encode(found))
        async with asyncio.timeout(10):
            client = await connecting
        assert client.state.tag == "t"
        await client.close()
    await server.close()
    bench.close()


def test_without_a_free_descriptor_nobody_says_that_no_engine_runs(repository: Path) -> None:
    paths = RunPaths(repository, "t")
    with attach.lock(paths):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            with pytest.raises(ConnectionLost, match="cannot tell whether an engine of run t is alive"):
                attach.engine_runs(paths)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["a pipe", "a device", "a folder"])
def test_a_lock_that_is_no_file_is_no_engine_and_cannot_be_taken(repository: Path, what: str) -> None:
    """A folder of runs can come in an archive, with anything in it."""
    paths = RunPaths(repository, "t")
    paths.create()
    if what == "a pipe":
        os.mkfifo(paths.lock)
    elif what == "a device":
        paths.lock.symlink_to("/dev/zero")
    else:
        paths.lock.mkdir()
    assert not attach.engine_runs(paths)
    with (
        pytest.raises(UsageError, match=r"cannot lock run t: cannot use|leads elsewhere"),
        attach.lock(paths),
    ):
        pass

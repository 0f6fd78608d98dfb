"""Supervisors of trainers: real ones, found again, stopped, and killed in ways that they cannot help."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from loop.records import training_folder
from loop.records.training_folder import Spec, TrainingFolder
from loop.training import fence, supervisor
from tests.loop.training.programs.supervising import has_groups

DAEMON = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(64):
            try: os.close(fd)
            except OSError: pass
        time.sleep(600)
    os._exit(0)
os.wait()
"""
"""A trainer that ignores signals and leaves a daemon behind in a session of its own."""
FLOOD = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        break
time.sleep(600)
"""
FOREVER = "import time\ntime.sleep(600)\n"


class Bench:
    """Runs one script under a supervisor in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.files = TrainingFolder(folder / "run")
        self.lock = folder / "slot.lock"
        self.folder = folder

    def start(self, script: str, timeout_s: float = 30, **limits: float) -> supervisor.Supervisor:
        (self.folder / "train.py").write_text(script)
        environment = fence.environment(os.environ, {supervisor.KEY: str(self.files.folder)})
        spec = Spec(
            [sys.executable, "train.py"], str(self.folder), environment, str(self.files.log),
            str(self.files.exit), str(self.files.supervisor), timeout_s, commit="c",
            memory_gb=limits.get("memory_gb", 0.0), log_bytes=int(limits.get("log_bytes", 2**26)),
            processes=int(limits.get("processes", 2000)), key=str(self.files.folder),
        )  # fmt: skip
        return supervisor.Standby(self.lock).start(self.files, spec)

    async def run(self, script: str, timeout_s: float = 30, **limits: float) -> training_folder.Exit:
        await supervisor.ended(self.start(script, timeout_s, **limits))
        found = self.files.read_exit("c")
        assert found is not None
        return found

    def left(self) -> list[psutil.Process]:
        """Processes of ours that are still there, however they hid: their environment gives them away."""
        mark, found = str(self.files.folder), []
        for process in psutil.process_iter():
            try:
                if process.environ().get(supervisor.KEY) == mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    async def printed(self, word: str) -> None:
        async with asyncio.timeout(10):
            while word not in self.files.end_of_log():  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_an_end_is_seen_at_once_with_its_exit_code(bench: Bench) -> None:
    found = await bench.run("print('hi')")
    assert (found.outcome, found.exit_code) == ("finished", 0)
    assert bench.files.end_of_log() == "hi\n"
    found = await bench.run("import sys; sys.exit(3)")
    assert (found.outcome, found.reason) == ("crashed", "exit code 3")
    found = await bench.run(FLOOD, processes=10)
    assert found.outcome == "crashed"
    assert found.reason == "started 21 processes, limit 10"
    assert bench.left() == []


async def test_a_trainer_is_found_again_and_only_by_its_own_start_time(bench: Bench) -> None:
    found = bench.start(FOREVER)
    assert await supervisor.locate(bench.files, bench.lock) == found
    with pytest.raises(BlockingIOError):
        bench.start(FOREVER)
    bench.files.supervisor.write_text(f'{{"pid": {found.pid}, "ticks": {found.ticks - 1}}}')
    assert supervisor.find(bench.files) is None
    await supervisor.stop(bench.files, found)
    assert await supervisor.locate(bench.files, bench.lock) is None


async def test_a_result_of_another_commit_is_not_taken(bench: Bench) -> None:
    await bench.run("pass")
    assert bench.files.read_exit("c") is not None
    assert bench.files.read_exit("another") is None


async def test_a_trainer_that_ignores_signals_and_hides_is_ended(bench: Bench) -> None:
    found = bench.start(DAEMON + "print('up', flush=True)\ntime.sleep(600)\n")
    await bench.printed("up")
    assert len(bench.left()) == 2
    await supervisor.stop(bench.files, found)
    assert bench.left() == []
    await supervisor.stop(bench.files, found)  # it is gone: nothing to do


async def test_a_supervisor_that_hangs_is_killed_with_its_tree(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "KILL_AFTER_S", 0.2)
    found = bench.start(DAEMON + "print('up', flush=True)\ntime.sleep(600)\n")
    await bench.printed("up")
    os.kill(found.pid, signal.SIGSTOP)
    await supervisor.stop(bench.files, found)
    assert not found.lives()
    assert bench.left() == []
    assert supervisor.is_free(bench.lock)


async def test_orphans_of_a_killed_supervisor_are_ended(bench: Bench) -> None:
    found = bench.start(DAEMON + "print('up', flush=True)\ntime.sleep(600)\n")
    await bench.printed("up")
    os.kill(found.pid, signal.SIGKILL)
    await supervisor.ended(found)
    assert len(bench.left()) >= 1
    assert supervisor.end_orphans(bench.files) >= 1
    async with asyncio.timeout(10):
        while bench.left():  # noqa: ASYNC110 - processes take a moment to die
            await asyncio.sleep(0.01)
    assert supervisor.end_orphans(bench.files) == 0


WIPED = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(f"up {os.getpid()}", flush=True)
        os.execve("/bin/sleep", ["sleep", "600"], {})
    os._exit(0)
time.sleep(600)
"""
"""A trainer that leaves a program behind in whose environment there is nothing."""


@pytest.mark.skipif(not has_groups(), reason="this user may not make a control group here")
async def test_orphans_that_have_wiped_their_environment_are_ended_too(bench: Bench) -> None:
    found = bench.start(WIPED)
    await bench.printed("up")
    hidden = psutil.Process(int(bench.files.end_of_log().split()[1]))
    os.kill(found.pid, signal.SIGKILL)
    await supervisor.ended(found)
    supervisor.end_orphans(bench.files)
    async with asyncio.timeout(10):
        while hidden.is_running() and hidden.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_no_more_of_an_environment_is_read_than_a_process_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """One can seem to be as large as all memory."""
    monkeypatch.setattr(supervisor, "ENVIRONMENT_MOST", 1000)
    process = subprocess.Popen(["sleep", "60"], env={"A": "x" * 2000, supervisor.KEY: "much-1-1-1"})
    try:
        assert supervisor.sweep("much", []) == 0
    finally:
        process.kill()
        process.wait()


def marked(key: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], supervisor.KEY: key})


def test_a_sweep_ends_the_unknown_trainers_of_one_run() -> None:
    processes = {key: marked(key) for key in ("one-1-1-1", "one-1-1-2", "one-2-1-1", "two-1-1-1")}
    try:
        assert supervisor.sweep("one", ["one-1-1-2"]) == 2
        assert [processes[key].wait(10) for key in ("one-1-1-1", "one-2-1-1")] == [-9, -9]
        assert [processes[key].poll() for key in ("one-1-1-2", "two-1-1-1")] == [None, None]
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


async def test_the_end_of_a_process_that_has_its_pid_from_another_is_not_waited_for() -> None:
    other = marked("other")
    try:
        gone = supervisor.Supervisor(other.pid, 1)
        assert not gone.lives()
        await asyncio.wait_for(supervisor.ended(gone), 5)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_standby_that_is_dropped_ends(tmp_path: Path) -> None:
    standby = supervisor.Standby(tmp_path / "lock")
    process = standby._process
    del standby
    assert process.wait(10) == 0


async def test_a_standby_that_cannot_write_its_orders_is_dismissed(bench: Bench) -> None:
    standby = supervisor.Standby(bench.lock)
    bench.files.folder.parent.mkdir(exist_ok=True)
    bench.files.folder.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="File exists"):
        standby.start(bench.files, Spec([], "", {}, "", "", "", 60.0))
    assert standby._process.returncode is not None
    assert supervisor.is_free(bench.lock)


async def test_what_an_earlier_trainer_left_does_not_keep_the_next_from_starting(bench: Bench) -> None:
    bench.files.reset()
    out = str(bench.files.out)
    deep = f"import os; os.chdir({out!r})\nfor i in range(2000): os.mkdir('d'); os.chdir('d')"
    assert (await bench.run(deep)).outcome == "finished"
    assert list(bench.files.out.iterdir()) != []
    assert (await bench.run("print('hi')")).outcome == "finished"
    assert list(bench.files.out.iterdir()) == []


def test_a_seat_is_free_until_something_trains_there(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert supervisor.is_free(lock)
    assert not lock.exists()
    standby = supervisor.Standby(lock)
    assert supervisor.is_free(lock)
    standby.dismiss()


def test_a_folder_without_a_supervisor_names_none(tmp_path: Path) -> None:
    files = TrainingFolder(tmp_path / "run")
    assert supervisor.find(files) is None
    files.reset()
    files.supervisor.write_text("not JSON")
    assert supervisor.find(files) is None
    files.supervisor.write_bytes(msgspec.json.encode({"pid": 2**22 + 1, "ticks": 1}))
    assert supervisor.find(files) is None

"""What the processes below a supervisor use is counted, also what they hide."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loop.training.programs import leftovers, usage

MB = 2**20
NO_LIMITS = {"processes": 10**6, "memory_gb": 0.0, "disk_gb": 0.0, "folders": []}


def test_memory_is_what_is_resident() -> None:
    assert usage.resident([os.getpid()]) >= psutil.Process().memory_info().rss * 0.9
    assert usage.resident([2**30]) == 0


def test_shared_memory_counts_once_when_it_is_exact() -> None:
    own, shared = usage.proportional(os.getpid())
    assert 0 < own + shared <= usage.resident([os.getpid()]) * 1.1


def test_files_are_counted_in_all_folders_up_to_a_number(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    for i in range(10):
        (tmp_path / f"a/b/{i}").write_bytes(bytes(10_000))
    used, files, deep = usage.on_disk([str(tmp_path / "a"), str(tmp_path / "missing")])
    assert (files, deep) == (11, False)
    assert used >= 100_000
    more = [str(tmp_path / "a"), *[str(tmp_path / "a/b")] * 100]
    assert usage.on_disk(more, files=3).files <= 5


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(MB))
    os.link(tmp_path / "a", tmp_path / "b")
    assert MB <= usage.on_disk([str(tmp_path)]).size < 1.5 * MB


@contextlib.contextmanager
def running(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has run this code and waits."""
    code = f"import ctypes, mmap, os, sys, time\n{code}\nprint('ready', flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


HOARDS = {
    "a file in memory": "f = os.memfd_create('x'); os.write(f, bytes(SIZE))",
    "a file in memory that is only mapped": (
        "f = os.memfd_create('x'); os.write(f, bytes(SIZE)); m = mmap.mmap(f, SIZE); os.close(f)"
    ),
    "a file in shared memory without a name": (
        "f = os.open('/dev/shm/test-usage', os.O_CREAT | os.O_RDWR); os.unlink('/dev/shm/test-usage')\n"
        "os.write(f, bytes(SIZE))"
    ),
    "a shared mapping": "m = mmap.mmap(-1, SIZE); m.write(bytes(SIZE))",
    "a shared mapping that is out of sight": (
        "m = mmap.mmap(-1, SIZE); m.write(bytes(SIZE)); m.madvise(mmap.MADV_DONTNEED)"
    ),
    "ordinary memory": "x = b'1' * SIZE",
}


@pytest.mark.parametrize("what", HOARDS)
def test_memory_is_counted_wherever_it_is_hidden(what: str) -> None:
    size = 64 * MB
    meter = usage.Meter({**NO_LIMITS, "memory_gb": 0.05})
    with running(HOARDS[what].replace("SIZE", str(size))) as process:
        assert size <= meter._memory([process.pid]) < 1.6 * size
        assert meter.excess().endswith("GB of memory, limit 0.1 GB")


def test_files_in_a_folder_that_is_in_memory_are_memory() -> None:
    """As /tmp is on many machines: what is written there is freed by no end of a process."""
    if not usage.in_memory(["/dev/shm"]):
        pytest.skip("/dev/shm is on a disk here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        meter = usage.Meter({**NO_LIMITS, "memory_gb": 0.05, "folders": [folder]})
        with running(f"open({folder + '/big'!r}, 'wb').write(bytes({64 * MB}))"):
            assert meter.excess().endswith("GB of memory, limit 0.1 GB")


def test_what_was_in_such_a_folder_before_is_not_what_it_uses() -> None:
    """What compilers keep there is shared by all trainings, and grows with each of them."""
    if not usage.in_memory(["/dev/shm"]):
        pytest.skip("/dev/shm is on a disk here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder, "old").write_bytes(bytes(32 * MB))
        meter = usage.Meter({**NO_LIMITS, "memory_gb": 0.05, "folders": [folder]})
        assert meter._memory([]) < 8 * MB
        Path(folder, "new").write_bytes(bytes(16 * MB))
        assert 16 * MB <= meter._memory([]) < 24 * MB


def test_a_folder_that_goes_while_it_is_looked_at_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor would have ended, and have written nothing of the training."""
    monkeypatch.setattr(os.path, "isdir", lambda _: True)
    assert usage.in_memory(["/no/such/folder"]) == []


def test_a_process_that_cannot_be_looked_into_counts_all_the_same() -> None:
    code = "x = b'1' * (64 << 20)\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)"
    with running(code) as process:
        assert sum(usage.proportional(process.pid)) > 60 * MB


@pytest.mark.parametrize("mapped", [True, False])
def test_a_deleted_file_counts_while_it_is_used(tmp_path: Path, mapped: bool) -> None:
    code = f"f = os.open({str(tmp_path / 'x')!r}, os.O_CREAT | os.O_RDWR); os.write(f, bytes({32 * MB}))\n"
    code += f"m = mmap.mmap(f, {32 * MB}); os.close(f)\n" if mapped else ""
    with running(code + f"os.unlink({str(tmp_path / 'x')!r})") as process:
        assert usage.held([process.pid]).disk == pytest.approx(32 * MB, rel=0.1)
        assert usage.on_disk([str(tmp_path)]).size < MB


def test_files_in_folders_with_paths_that_are_too_long_are_counted(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("x" * 250, dir_fd=here)
        inner = os.open("x" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    file = os.open("big", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(file, bytes(8 * MB))
    os.close(file)
    os.close(here)
    found = usage.on_disk([str(tmp_path)])
    assert (found.files, found.deep) == (41, False)
    assert found.size > 8 * MB


def test_folders_that_are_too_deep_are_said_and_cost_no_time(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    opened = len(os.listdir("/proc/self/fd"))
    before = time.monotonic()
    assert usage.on_disk([str(tmp_path)]).deep
    assert time.monotonic() - before < 5
    assert len(os.listdir("/proc/self/fd")) == opened
    meter = usage.Meter({**NO_LIMITS, "disk_gb": 1.0, "folders": [str(tmp_path)]})
    assert meter.excess() == "made folders more than 200 deep in each other"
    leftovers.remove(tmp_path / "d")


def test_what_was_there_before_is_not_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(bytes(4 * MB))
    meter = usage.Meter({**NO_LIMITS, "disk_gb": 0.003, "folders": [str(tmp_path)]})
    assert meter.excess() == ""
    (tmp_path / "new").write_bytes(bytes(4 * MB))
    assert meter.excess() == "wrote 0.0 GB of files, limit 0.0 GB"


def test_many_new_threads_are_urgent() -> None:
    meter = usage.Meter({**NO_LIMITS, "processes": 200})
    assert not meter.is_urgent()
    threads = "import threading\nfor i in range(150): threading.Thread(target=time.sleep, args=(60,)).start()"
    with running(threads):
        assert meter.is_urgent()
        meter.excess()
        assert not meter.is_urgent()  # a large machine has that many all the time


def test_many_threads_are_too_many_though_they_are_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts threads as it counts processes: none are left for anybody else."""
    monkeypatch.setattr(usage, "MANY_THREADS", 40)
    meter = usage.Meter(NO_LIMITS)
    threads = "import threading\nfor i in range(50): threading.Thread(target=time.sleep, args=(60,)).start()"
    with running(threads):
        assert meter.excess().endswith(" threads, limit 40")


def test_processes_that_have_ended_cost_no_memory_and_their_time_stays() -> None:
    meter = usage.Meter(NO_LIMITS)
    with running("while time.process_time() < 0.3: pass"):
        meter.excess()
        seen, kept = meter.seconds(), len(meter._used)
    meter.excess()
    assert meter.seconds() >= seen >= 0.2
    assert len(meter._used) < kept


def test_more_open_files_than_can_be_measured_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes can share all they have opened: a few of them held up the supervisor beyond any time-out."""
    monkeypatch.setattr(usage, "MANY_OPENED", 300)
    meter = usage.Meter({**NO_LIMITS, "memory_gb": 0.05})
    with running("x = b'1' * (64 << 20)\nf = [os.dup(0) for _ in range(400)]"):
        assert meter.excess() == "opened more than 300 files at a time"


LEADERLESS = """
import threading
def stay():
    global kept, memory, gone
    kept = bytearray(os.urandom(1)) * (64 * 2**20)
    memory = os.memfd_create("hidden")
    os.write(memory, bytes(32 * 2**20))
    gone = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
    os.write(gone, bytes(8 * 2**20))
    print("ready", flush=True)
    time.sleep(60)
threading.Thread(target=stay).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


def test_a_process_does_not_hide_behind_the_end_of_its_first_thread() -> None:
    """/proc/<pid> tells nothing of it then: neither its memory nor its files."""
    with running(LEADERLESS) as process:
        assert usage.resident([process.pid]) > 64 * MB
        assert sum(usage.proportional(process.pid)) > 64 * MB
        held = usage.held([process.pid])
        assert held.memory >= 32 * MB
        assert held.disk >= 8 * MB


def test_what_is_mapped_is_counted_beside_a_name_that_is_no_text(tmp_path: Path) -> None:
    code = f"""
libc = ctypes.CDLL(None)
def map(name, size):  # not by `mmap`, which keeps the file open
    path = os.path.join({os.fsencode(tmp_path)!r}, name)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(size))
    libc.mmap(None, ctypes.c_size_t(size), 1, 1, descriptor, ctypes.c_long(0))
    os.close(descriptor)
    os.unlink(path)
for name, size in ((b"a\\xff", 4096), (b"b", 16 * 2**20), (b"c\\xff", 4096), (b"d\\n", 4096)):
    map(name, size)
"""
    with running(code) as process:
        held = usage.held([process.pid])
    assert held.memory + held.disk >= 16 * MB

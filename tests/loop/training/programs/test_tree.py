"""The processes below a supervisor: known, measured, waited for and ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loop.training.programs import tree
from tests.loop.training.programs.supervising import until


def test_exit_codes_are_told_in_words() -> None:
    assert [tree.describe(code) for code in (1, -9, -1000)] == [
        "exit code 1", "killed by SIGKILL", "exit code -1000",
    ]  # fmt: skip


def test_a_process_is_known_by_its_start_time() -> None:
    first = subprocess.Popen(["sleep", "60"])
    time.sleep(0.02)
    second = subprocess.Popen(["sleep", "60"])
    try:
        assert 0 < tree.ticks(first.pid) < tree.ticks(second.pid)
        assert {first.pid, second.pid} <= set(tree.descendants(os.getpid()))
        assert tree.descendants(first.pid) == []
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    assert tree.ticks(2**30) == 0


def test_the_first_of_several_children_to_end_is_enough() -> None:
    slow, quick = subprocess.Popen(["sleep", "60"]), subprocess.Popen(["sleep", "0.1"])
    try:
        assert not tree.end_of(slow.pid)(0.01)
        assert tree.end_of(slow.pid, quick.pid)(20)
    finally:
        slow.kill()
        slow.wait()
        quick.wait()


ENDS_ALL = """
import os, subprocess, sys, time
sys.path.append(sys.argv[1])
import tree
tree.adopt()
quick = subprocess.Popen(["true"])
subprocess.Popen(["sh", "-c", "setsid sleep 600 & setsid sleep 600 & exit 0"])
time.sleep(0.3)
found = tree.end_all()
print(found.codes[quick.pid], found.killed, tree.descendants(os.getpid()))
"""


def test_all_are_ended_also_those_that_left_their_parent() -> None:
    folder = str(Path(tree.__file__).parent)
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ENDS_ALL, folder], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["0", "2", "[]"]


FREEZER = Path("/sys/fs/cgroup/freezer")
HANGS = """
import os, subprocess, sys
sys.path.append(sys.argv[1])
import tree
tree.GIVE_UP_S = 0.2
tree.adopt()
frozen = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open(f"{sys.argv[2]}/tasks", "w").write(str(frozen.pid))
open(f"{sys.argv[2]}/freezer.state", "w").write("FROZEN")
found = tree.end_all()
print(found.stuck == [frozen.pid], found.killed)
tree.GIVE_UP_S = 600
other = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
found = tree.end_all()
print(found.stuck == [frozen.pid], found.codes == {other.pid: -9})
"""


@pytest.mark.skipif(not os.access(FREEZER / "tasks", os.W_OK), reason="nothing can be frozen here")
def test_one_that_hangs_in_the_kernel_is_not_waited_for_and_the_second_time_at_once() -> None:
    """A frozen process does not end when it is killed, like one in a driver that waits for its GPU.

    A supervisor ends what a trainer has started, and later what its judge has started.
    """
    group = FREEZER / f"test-{os.getpid()}"
    group.mkdir()
    try:
        words = [sys.executable, "-I", "-S", "-c", HANGS, str(Path(tree.__file__).parent), str(group)]
        found = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
        assert found.stdout.splitlines() == ["True 1", "True True"]
    finally:
        (group / "freezer.state").write_text("THAWED")
        until(lambda: not (group / "tasks").read_text())
        group.rmdir()


def test_a_process_whose_name_is_no_text_is_known_and_ended() -> None:
    """It could not be counted and not be killed, so its supervisor waited for its end for ever."""
    named = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'\\xff) R 1 1', 0, 0, 0); print(1, flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", f"{named}; time.sleep(60)"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        assert process.pid in tree.descendants(os.getpid())
        assert tree.ticks(process.pid) > 0
    finally:
        process.kill()
        process.wait()

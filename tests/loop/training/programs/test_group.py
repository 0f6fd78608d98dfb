"""Control groups for real: of this machine, or what happens where it has none that this user may use."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop.training.programs import group, tree
from tests.loop.training.programs.supervising import has_groups, until

PROGRAMS = str(Path(group.__file__).parent)
OURS = f"test-{os.getpid()}"
"""How the names of groups begin in this test: engines of other tests remove what is abandoned."""
STARTS = f"""
import os, subprocess, sys, time
sys.path.append(sys.argv[1])
import group, tree
group.PREFIX = "{OURS}"
"""
MAKES = f"""{STARTS}
own = group.Group()
print(own._at or "none", flush=True)
"""
LEAVES = f"""{MAKES}
left = (
    "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); "
    "print(os.getpid(), flush=True); os.closerange(0, 3); time.sleep(600)"
)
words = [sys.executable, "-I", "-S", "-c", left]
print(subprocess.run(words, env={{}}, stdout=subprocess.PIPE, text=True).stdout.strip(), flush=True)
"""
"""Leaves a process behind that has another parent, another session and no environment."""


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "PREFIX", OURS)


def run(code: str) -> list[str]:
    """What a program prints that uses group.py."""
    words = [sys.executable, "-I", "-S", "-c", code, PROGRAMS]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout.split()


def lives(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return tree.status(pid)[0] not in "ZX"
    return False


needed = pytest.mark.skipif(not has_groups(), reason="this user may not make a control group here")


@needed
def test_what_left_its_parent_and_wiped_its_environment_is_found_and_killed_with_all_the_rest() -> None:
    ends = (
        "print(len(own.end()), flush=True)\nwhile own.members(): time.sleep(0.01)\nprint(group.place().own)"
    )
    at, left, killed, after = run(LEAVES + ends)
    found = group.place()
    assert found
    assert Path(at).parent == found.own
    assert killed == "1"
    assert not lives(left)
    assert after == at  # it is back, and what it starts next is born there


@needed
def test_it_is_measured_though_nothing_but_the_group_knows_of_it() -> None:
    limits = {"processes": 0, "memory_gb": 0, "disk_gb": 0, "folders": []}
    measures = f"import usage\nprint(usage.Meter({limits}, own=own).excess(), flush=True); own.end()"
    assert run(LEAVES + measures)[2:] == ["started", "1", "processes,", "limit", "0"]


@needed
@pytest.mark.parametrize("everywhere", [False, True])
def test_what_a_dead_supervisor_has_left_is_killed_by_the_next(everywhere: bool) -> None:
    at, left = run(LEAVES)
    assert lives(left)
    assert group.end_abandoned(everywhere=everywhere) >= 1
    assert not lives(left)
    assert not Path(at).exists()


@needed
def test_what_belongs_to_a_living_supervisor_stays() -> None:
    words = [sys.executable, "-I", "-S", "-c", f"{LEAVES}\ntime.sleep(600)", PROGRAMS]
    living = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert living.stdout
        at, left = (living.stdout.readline().strip() for _ in range(2))
        group.end_abandoned(everywhere=True)
        assert lives(left)
        living.kill()
        until(lambda: not lives(str(living.pid)))  # dead, though nobody has asked how it ended
        assert group.end_abandoned() >= 1
        assert not Path(at).exists()
    finally:
        living.kill()
        living.wait()


@needed
def test_what_belongs_to_nobody_knows_whom_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that may open no more files takes no living supervisor for a dead one."""
    at, left = run(LEAVES)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(tree, "status", lambda _: os.open("/", os.O_WRONLY))
            assert group.end_abandoned() == 0
        assert lives(left)
        assert Path(at).exists()
    finally:
        group.end_abandoned()


@needed
def test_a_group_of_a_process_in_another_namespace_stays() -> None:
    """There its number means another process, which may live."""
    found = group.place()
    assert found
    theirs = found.own / f"{group.PREFIX}.1.{os.getpid()}.1"
    theirs.mkdir()
    try:
        group.end_abandoned(everywhere=True)
        assert theirs.exists()
    finally:
        theirs.rmdir()


@needed
def test_processor_time_of_the_dead_counts() -> None:
    burns = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"{MAKES}\nsubprocess.run([sys.executable, '-I', '-S', '-c', {burns!r}])\nprint(own.seconds())"
    assert 0.3 < float(run(code)[1]) < 3


def test_where_there_is_no_tree_of_groups_nothing_is_found_or_ended() -> None:
    """A program in a group that cannot be written to goes on without one of its own."""
    denied = "group._write = lambda *_: (_ for _ in ()).throw(PermissionError())"
    prints = "print(group._name(), own.members(), own.seconds(), own.end())"
    code = f"{STARTS}\n{denied}\nown = group.Group()\n{prints}"
    name, *nothing = run(code)
    assert nothing == ["set()", "0.0", "set()"]
    if found := group.place():
        assert not (found.own / name).exists()


@pytest.mark.parametrize(
    ("cgroup", "mounts", "expected"),
    [
        ("0::/a/b", "1 1 0:1 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup rw", "/sys/fs/cgroup/a/b"),
        ("1:cpu:/x\n0::/", "1 1 0:1 / /sys/fs/cgroup/unified rw - cgroup2 c rw", "/sys/fs/cgroup/unified"),
        ("0::/docker/x", r"1 1 0:1 /docker /m\040t rw - cgroup2 c rw", "/m t/x"),
        ("0::/../other", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw", None),
        ("0::/", "1 1 0:1 /../.. /host/sys/fs/cgroup rw - cgroup2 c rw", None),
        ("0::/elsewhere", "1 1 0:1 /docker /sys/fs/cgroup rw - cgroup2 c rw", None),
        ("4:memory:/", "1 1 0:1 / /sys/fs/cgroup rw - cgroup cgroup rw,memory", None),
    ],
)
def test_the_group_of_this_process_is_found(
    monkeypatch: pytest.MonkeyPatch, cgroup: str, mounts: str, expected: str | None
) -> None:
    said = {"/proc/self/cgroup": cgroup, "/proc/self/mountinfo": f"9 9 0:2 / / rw - ext4 x rw\n{mounts}"}
    monkeypatch.setattr(Path, "read_bytes", lambda path: said[str(path)].encode())
    found = group.place()
    assert (str(found.own) if found else None) == expected


CHAIN = f"""{MAKES}
import time
if not all(os.fork() for _ in range(8)):
    os.setsid()
    os.closerange(0, 3)
    end = time.monotonic() + 20
    while time.monotonic() < end:  # each process starts the next one and ends
        if os.fork():
            os._exit(0)
    os._exit(0)
time.sleep(0.2)
os.kill(os.getpid(), 9)
"""


@needed
def test_processes_that_always_start_the_next_one_and_end_are_ended() -> None:
    """Whoever kills them one by one, by their numbers, may come too late."""
    words = [sys.executable, "-I", "-S", "-c", CHAIN, PROGRAMS]
    found = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=30)
    at = Path(found.stdout.strip())
    until(lambda: (at / "cgroup.procs").read_text())
    group.end_abandoned()
    assert not at.exists()

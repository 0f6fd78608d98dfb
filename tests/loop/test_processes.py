"""Which processes are alive."""

from __future__ import annotations

import os
import subprocess
import sys

from loop import processes


def test_a_process_is_alive_until_it_has_ended_even_if_its_parent_has_not_noticed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    assert processes.alive(child.pid)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended and stays a zombie
    assert not processes.alive(child.pid)
    child.wait()
    assert not processes.alive(child.pid)


def test_another_process_with_the_same_id_is_not_the_one_that_was_meant() -> None:
    started = processes.start_ticks(os.getpid())
    assert started > 0
    assert processes.alive(os.getpid(), started)
    assert not processes.alive(os.getpid(), started - 1)


def test_a_process_that_is_gone_was_started_never() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert processes.start_ticks(child.pid) == 0

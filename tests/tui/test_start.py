"""The cockpit on a real terminal, showing a recording."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.e2e.terminal import Terminal
from tests.tui.conftest import ROOT, SHOW


def test_leaving_says_how_to_come_back(terminal: Terminal) -> None:
    terminal.press("q")
    assert terminal.wait_end() == 0
    assert terminal.restored()
    assert "autoresearch-tui attach --tag nov23" in terminal.output.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(terminal: Terminal, number: int) -> None:
    os.kill(terminal.pid, number)
    terminal.wait_end()
    assert terminal.restored()


def test_a_lost_terminal_ends_the_cockpit(terminal: Terminal) -> None:
    terminal.hang_up()
    _, status = os.waitpid(terminal.pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 128 + signal.SIGHUP)


def test_a_lost_terminal_ends_the_cockpit_whoever_keeps_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make run` over a line that drops: make is told that the terminal is gone, and tells nobody."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    command = f"trap '' HUP; {sys.executable} -c '{SHOW}'; true"
    opened = Terminal(["sh", "-c", command], ROOT)
    try:
        opened.wait_for("autoresearch/nov23", "? waiting 3", "q Detach")
        (cockpit,) = psutil.Process(opened.pid).children()
        opened.hang_up()
        gone, alive = psutil.wait_procs([cockpit], timeout=20)
        assert (len(gone), alive) == (1, [])
    finally:
        opened.kill()

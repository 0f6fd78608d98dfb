"""The cockpit on a real terminal, showing a recording."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.terminal import Terminal


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

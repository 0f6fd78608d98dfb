"""The real command on a real terminal, from the first frame to the last process."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.terminal import Terminal
from tests.e2e.test_headless import COMMAND, left, run

Start = Callable[..., Terminal]


@pytest.fixture
def start(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the command on a terminal; at the end nothing of it is left."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    terminals: list[Terminal] = []

    def begin(*words: str, columns: int = 120, rows: int = 40) -> Terminal:
        terminals.append(Terminal([*COMMAND, *words], repository, columns, rows))
        return terminals[-1]

    yield begin
    for terminal in terminals:
        terminal.kill()
    run(repository, "stop", "--now")
    for process in left(repository):
        process.kill()


def status(root: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(root, "status", "--json").stdout)
    return found


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_start_approve_pause_detach_attach_stop(repository: Path, start: Start) -> None:
    terminal = start("--tag", "demo", "--agent", "search", "--budget", "1")
    terminal.wait_for("autoresearch/demo", "results.tsv", "baseline", "q Detach")
    terminal.wait_for("✓ keep")
    terminal.press("A")
    terminal.wait_for("approval on", "a Approve", "waits for you")
    terminal.press("2")
    terminal.wait_for("a approves, r rejects, e edits", "vs incumbent")
    terminal.press("r")
    terminal.wait_for("Why not?")
    terminal.press("too small\r")
    terminal.wait_for("rejected")
    terminal.press("A")
    terminal.wait_for("● training", gone="approval on")
    terminal.press(" ")
    terminal.wait_for("‖ paused", seconds=20)
    terminal.press("q")
    assert terminal.wait_end() == 0
    assert terminal.restored()
    assert "autoresearch-tui attach --tag demo" in terminal.output.decode()

    state = status(repository)
    assert state["running"] is True
    again = start("attach", columns=80, rows=24)
    again.wait_for("autoresearch/demo", "‖ paused", "✓ keep", "1 Agent")
    again.press(" ")
    again.wait_for("● training")
    again.press("Q")
    again.wait_for("Stop this run's engine?")
    again.press("n")
    again.wait_for("■ stopped", "stopped by hand")
    again.press("q")
    assert again.wait_end() == 0
    assert again.restored()
    wait_until(lambda: not left(repository), 5)


def test_closing_the_window_leaves_the_engine_alone(repository: Path, start: Start) -> None:
    terminal = start("--tag", "demo", "--agent", "search", "--budget", "1")
    terminal.wait_for("● training")
    terminal.hang_up()
    os.waitpid(terminal.pid, 0)
    before = status(repository)["experiments"]
    wait_until(lambda: status(repository)["experiments"] != before)
    assert status(repository)["running"] is True
    again = start("attach")
    again.wait_for("autoresearch/demo", "baseline", "● training")
    began = time.monotonic()
    assert run(repository, "stop", "--now").returncode == 0
    assert time.monotonic() - began < 5
    wait_until(lambda: not left(repository) or {p.pid for p in left(repository)} == {again.pid}, 2)
    again.wait_for("■ stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(start: Start, number: int) -> None:
    terminal = start("--tag", "demo", "--agent", "search", "--budget", "1")
    terminal.wait_for("● training")
    os.kill(terminal.pid, number)
    terminal.wait_end()
    assert terminal.restored()


def test_two_cockpits_see_the_same(start: Start) -> None:
    first = start("--tag", "demo", "--agent", "search", "--budget", "1", "--approve")
    first.wait_for("approval on", "waits for you")
    second = start("attach", columns=100, rows=30)
    second.wait_for("waits for you")
    second.press("a")
    first.wait_for("● training")


def test_a_start_that_cannot_work_says_why_in_one_line(start: Start) -> None:
    terminal = start("--agent", "nonsense")
    assert terminal.wait_end() == 2
    words = terminal.output.rpartition(b"\x1b[?1049l")[2].decode()
    lines = [line for line in re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", words).splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("autoresearch-tui: no agent 'nonsense'")

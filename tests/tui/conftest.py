"""Cockpits that show a recording: in the test itself, with a clock that stands still, and on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.widgets import Input

from loop.client import Connection
from tests.e2e.terminal import Terminal
from tests.tui.recorded import Recorded, Script
from tui.app import Cockpit

Open = Callable[[Recorded | Script], Cockpit]
Snap = Callable[..., bool]
"""The fixture `snap_compare`: compares a picture of an app with the stored one."""

ROOT = Path(__file__).parents[2]
SHOW = """
import sys
from tests.tui.recorded import Recorded, waiting
from tui.start import run_cockpit

async def connect() -> Recorded:
    return waiting()

sys.exit(run_cockpit(connect))
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A real terminal on which the cockpit shows a recording. $VISUAL appends a line and waits for enter."""
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\necho "# mine" >> "$1"\necho "the editor is open"\nread line\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    opened = Terminal([sys.executable, "-c", SHOW], ROOT)
    opened.wait_for("autoresearch/nov23", "? waiting 3", "q Detach")
    yield opened
    opened.kill()


@pytest.fixture
def cockpit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Makes a cockpit that shows a recording; its clock stands at the recording's end."""
    monkeypatch.setattr(Input, "cursor_blink", False)
    monkeypatch.delenv("NO_COLOR", raising=False)

    def make(recording: Recorded | Script) -> Cockpit:
        now = recording.t if isinstance(recording, Script) else 0.0
        connection = Recorded(recording.records) if isinstance(recording, Script) else recording

        async def connect() -> Connection:
            return connection

        return Cockpit(connect, tmp_path / "config", now=lambda: now)

    return make

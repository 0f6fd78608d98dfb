"""A cockpit on a recording, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Input

from loop.client import Connection
from tests.tui.recorded import Recorded, Script
from tui.app import Cockpit

Open = Callable[[Recorded | Script], Cockpit]


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

"""Candidates in the human's own editor."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.terminal import Terminal
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import AFTER, waiting
from tui.editor import run_editor


def test_the_editor_gives_back_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\necho "# mine" >> "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    assert run_editor(AFTER, ".py") == AFTER + "# mine\n"
    monkeypatch.setenv("VISUAL", "false")
    with pytest.raises(ValueError, match="false ended with code 1"):
        run_editor(AFTER, ".py")


async def test_where_no_editor_can_open_it_says_so(cockpit: Open) -> None:
    """The tests' screen is no terminal that could be handed to an editor."""
    connection = waiting()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("e")
        await settle(pilot)
        app.main.action_open(1)
        await settle(pilot)
        await pilot.press("e")
        await settle(pilot)
        words = [n.message.partition(":")[0] for n in app._notifications]
        assert words == ["not edited", "not shown"]
        assert connection.sent == []


def test_the_editor_takes_the_terminal_and_gives_it_back(terminal: Terminal) -> None:
    terminal.press("e")
    terminal.wait_for("the editor is open")
    terminal.press("\r")
    terminal.wait_for("autoresearch/nov23", "done", gone="the editor")  # `done`: the recording's answer
    terminal.press("\r")
    terminal.wait_for("nov23 #3")
    terminal.press("[")
    terminal.wait_for("nov23 #2")
    terminal.press("e")
    terminal.wait_for("the editor is open")
    terminal.press("\r")
    terminal.wait_for("nov23 #2", gone="the editor")

"""The form for a new run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from textual.widgets import Checkbox, Input, Static

from loop.client import Finding, NewRun, RunOverview
from tests.tui.conftest import Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.test_others import HERE, THERE, Listed, Other, open_with
from tui.screens.new_run import NewRunScreen

FINDINGS = [
    Finding("auto", "ok", "claude: ANTHROPIC_API_KEY is set"),
    Finding("search", "ok", "no model: varies hyperparameters"),
    Finding("claude", "ok", "ANTHROPIC_API_KEY is set"),
    Finding("gpt", "none", "OPENAI_API_KEY or OPENAI_BASE_URL is not set"),
    Finding("claude-code", "ok", "claude-agent-acp 0.9.1; login: Claude Max; modes default, plan"),
    Finding("codex", "wrong", "/usr/bin/npx does not answer in 5 s"),
    Finding("gemini", "none", "npx is not on the PATH"),
    Finding("budget", "ok", "seconds a training; empty: 300"),
    Finding("model", "ok", "empty: claude-opus-5-5"),
    Finding("workers", "wrong", "shared with nov23, which runs: NVIDIA H100; auto: one for each GPU"),
    Finding("root", "none", "not trusted, so ignored: prepare_command (of /research; --trust accepts)"),
]


def listed(**others: Other) -> Listed:
    made = Listed(HERE, THERE, **others)
    made.findings = FINDINGS
    return made


async def test_what_is_typed_starts_a_run_and_shows_it(tmp_path: Path) -> None:
    runs = listed(nov22=Other("nov22"))
    app = open_with(runs, tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("w")
        await settle(pilot)
        await pilot.press("down", "n")
        await settle(pilot)
        assert isinstance(app.screen, NewRunScreen)
        await pilot.press(
            "down", "tab", *"opus", "tab", *"60", "down", *"auto", "tab", *"hours 8", "tab", "space"
        )
        await pilot.press("enter")
        await settle(pilot)
        assert app.link.state.tag == "nov22"
        assert len(app.screen_stack) == 1
    assert runs.wanted == [NewRun(THERE.root, "search", "opus", "60", "auto", "hours 8", approve=True)]


async def test_what_is_refused_is_said_and_nothing_that_was_typed_is_lost(tmp_path: Path) -> None:
    runs = listed()
    runs.refuses = "the budget must be a number of seconds above 0, not 'soon'"
    app = open_with(runs, tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("w")
        await settle(pilot)
        await pilot.press("n", "tab", "tab", *"soon", "enter")
        await settle(pilot)
        assert isinstance(app.screen, NewRunScreen)
        assert str(app.screen.query_one("#said", Static).content) == runs.refuses
        assert app.screen.query_one("#budget", Input).value == "soon"
        await pilot.press("enter")
        await settle(pilot)
        assert len(runs.wanted) == 2
        await pilot.press("escape", "escape")
        await settle(pilot)
        assert len(app.screen_stack) == 1
        assert app.link.state.tag == "nov23"


async def test_the_form_stays_until_it_is_known_whether_the_engine_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = listed(nov22=Other("nov22"))
    go_on, start = threading.Event(), runs.start

    def slowly(wanted: NewRun) -> RunOverview:
        go_on.wait(30)
        return start(wanted)

    monkeypatch.setattr(runs, "start", slowly)
    app = open_with(runs, tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("w")
        await settle(pilot)
        await pilot.press("n", "enter", "escape")
        stayed = isinstance(app.screen, NewRunScreen)
        go_on.set()
        await settle(pilot)
        assert stayed
        assert app.link.state.tag == "nov22"


async def test_the_check_box_is_empty_while_it_is_off(tmp_path: Path) -> None:
    app = open_with(listed(), tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("w", "n")
        await settle(pilot)
        box = app.screen.query_one(Checkbox)
        box.focus()
        seen = []
        for _ in range(3):
            seen.append("X" in box.render_line(0).text)
            await pilot.press("space")
            await settle(pilot)
        assert seen == [False, True, False]


@pytest.mark.parametrize("size", ["narrow", "usual", "large"])
def test_looks(snap_compare: Snap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setattr(time, "time", lambda: 7500.0)
    monkeypatch.setattr(Input, "cursor_blink", False)
    app = open_with(listed(), tmp_path)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=press("w", "n", "tab", "tab", "6", "0"))

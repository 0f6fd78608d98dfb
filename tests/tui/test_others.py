"""Other runs: they ring, and one is shown in the place of another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from loop import events as ev
from loop.client import Connection, ConnectionLost, Finding, NewRun, Refused, RunOverview
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import Recorded, Script, training
from tui.app import Cockpit


class Other(Recorded):
    """A recording of a run with another tag."""

    def __init__(self, tag: str) -> None:
        script = Script().night(3)
        super().__init__(script.records)
        self.records_of_it = script.records
        created = script.records[0]
        assert isinstance(created.event, ev.RunCreated)
        script.records[0] = ev.Record(created.seq, created.t, replace(created.event, tag=tag))


class Listed:
    """A list of runs that the test changes; `others` are their connections. `findings` are what a look for a
    new run finds, and `refuses` is why none can be started."""

    agents = ("auto", "search", "claude", "gpt", "claude-code", "codex", "gemini", "opencode", "qwen")

    def __init__(self, *runs: RunOverview, **others: Other) -> None:
        self.runs = list(runs)
        self.others = others
        self.findings: list[Finding] = []
        self.refuses = ""
        self.wanted: list[NewRun] = []

    def look(self, root: str, tell: Callable[[Finding], object]) -> None:
        for finding in self.findings:
            tell(finding)

    def start(self, wanted: NewRun) -> RunOverview:
        self.wanted.append(wanted)
        if self.refuses:
            raise Refused(self.refuses)
        return THERE

    def known(self) -> list[RunOverview]:
        return self.runs

    def opener(self, run: RunOverview) -> Callable[[], Awaitable[Connection]]:
        async def connect() -> Connection:
            if run.tag not in self.others:
                raise ConnectionLost("its folder is gone")
            return Recorded(self.others[run.tag].records_of_it)

        return connect


HERE = RunOverview("/research", "nov23", phase="training", running=True)
THERE = RunOverview("/elsewhere/project", "nov22", phase="stopped", best=1.2, baseline=1.25)


def open_with(listed: Listed, folder: Path) -> Cockpit:
    async def connect() -> Connection:
        return training()

    return Cockpit(connect, folder, now=lambda: 0.0, runs=listed)


async def test_enter_shows_another_run_and_back(tmp_path: Path) -> None:
    listed = Listed(HERE, THERE, nov22=Other("nov22"), nov23=Other("nov23"))
    app = open_with(listed, tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("m", "w")
        await settle(pilot)
        await pilot.press("down", "enter")
        await settle(pilot)
        assert app.link.state.tag == "nov22"
        assert len(app.link.state.experiments) == 3
        assert app.link.trouble == ""
        assert app.main.results.marks == set()


async def test_a_run_that_cannot_be_shown_leaves_this_one(tmp_path: Path) -> None:
    app = open_with(Listed(HERE, THERE), tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("w")
        await settle(pilot)
        await pilot.press("down", "enter")
        await settle(pilot)
        assert app.link.state.tag == "nov23"
        assert [n.message for n in app._notifications] == ["nov22 cannot be shown: its folder is gone"]


@pytest.mark.parametrize("wants", ["", "#4 waits for your approval"])
async def test_another_run_rings_once(tmp_path: Path, wants: str) -> None:
    other = RunOverview("/elsewhere", "nov22", phase="waiting", running=True, attention=wants)
    app = open_with(Listed(HERE, other), tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert app.main._others is not None
        for _ in range(2):
            app.main._others.look()
            await settle(pilot)
        told = [n.message for n in app._notifications]
        assert told == ([f"nov22: {wants}   (w goes there)"] if wants else [])

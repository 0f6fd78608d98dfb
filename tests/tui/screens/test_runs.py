"""The list of runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from loop.client import RunOverview
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import training
from tests.tui.test_others import HERE, Listed, open_with
from tui.lines import Lines
from tui.screens.runs import RunsScreen, ago, condition, repositories, row

WAITS = "#4 waits for your approval"
RUNS = (
    RunOverview("/home/me/other", "lr-sweep", "waiting", True, WAITS, began=0, seen=7200),
    RunOverview("/research", "nov23", "training", True, best=0.9822, baseline=0.9999, experiments=24),
    RunOverview("/research", "nov21", "stopped", best=1.01, baseline=1.02, kept=4, dollars=3.2),
    RunOverview("/tmp/trial", "nov20", "training", experiments=1),
)


@pytest.mark.parametrize(
    ("run", "word"),
    [
        (RunOverview("/r", "t", "training", True), "training"),
        (RunOverview("/r", "t", "training", True, "#3 waits"), "waits"),
        (RunOverview("/r", "t", "paused", True, "paused: by hand"), "paused"),
        (RunOverview("/r", "t", "stopped"), "finished"),
        (RunOverview("/r", "t", "training"), "interrupted"),
    ],
)
def test_what_a_run_does(run: RunOverview, word: str) -> None:
    assert condition(run)[0] == word


def test_how_long_ago() -> None:
    assert [ago(s) for s in (5, 720, 3 * 3600, 86400 * 5)] == ["now", "12 min", "3 h", "5 days"]


async def test_the_cursor_begins_at_this_run_and_stays_on_its_run(tmp_path: Path) -> None:
    listed = Listed(*RUNS)
    app = open_with(listed, tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("w")
        await settle(pilot)
        screen, lines = app.screen, app.screen.query_one(Lines)
        assert isinstance(screen, RunsScreen)
        assert lines.cursor == 1
        listed.runs = [RUNS[1], RUNS[0], *RUNS[2:]]
        screen._refresh()
        await settle(pilot)
        assert lines.cursor == 0
        await pilot.press("escape")
        assert len(app.screen_stack) == 1


def test_runs_with_the_same_tag_are_told_apart_in_few_columns() -> None:
    roots = ["/home/me/research", "/home/you/research", "/srv/a-very-long-name-of-a-folder"]
    names = repositories([*roots, roots[0]])
    assert [names[root] for root in roots] == ["me/research", "you/research", "a-very-long-n…"]
    runs = [RunOverview(root, "nov23", "stopped", best=0.98, baseline=1.0, seen=0) for root in roots]
    seen = [row(run, run.tag, names[run.root], 7200, here=False).plain[:70] for run in runs]
    assert len(set(seen)) == 3
    assert all("2 h" in line and "0.9800  -2.00%" in line for line in seen)


@pytest.mark.parametrize(
    ("roots", "names"),
    [
        (["/a/x/r", "/b/x/r", "/b/y/r"], ["a/x/r", "b/x/r", "y/r"]),
        (["/r", "/a/r"], ["/r", "a/r"]),
        (["/w/research-of-november-a", "/w/research-of-november-b"], ["…of-november-a", "…of-november-b"]),
        (
            ["/alice/work/research", "/bob/work/research", "/w/research-of-may-a", "/w/research-of-may-b"],
            ["alice/…esearch", "bob/wo…esearch", "resear…f-may-a", "resear…f-may-b"],
        ),
        (["/w/r", "/w/r/"], ["/w/r", "/w/r"]),
        ([], []),
    ],
)
def test_the_name_of_a_repository_tells_it_from_others(roots: list[str], names: list[str]) -> None:
    assert list(repositories(roots).values()) == names


async def test_long_tags_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    runs = [RunOverview("/research", f"nov23-learning-rate-{letter}", "stopped") for letter in "ab"]
    app = open_with(Listed(*runs), tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("w")
        await settle(pilot)
        lines = app.screen.query_one(Lines)
        assert ["…arning-rate-" + x in lines.render_line(i).text for i, x in enumerate("ab")] == [True, True]


async def test_a_recording_has_no_list(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("w")
        await settle(pilot)
        assert len(app.screen_stack) == 1
        assert len(app._notifications) == 1


@pytest.mark.parametrize("size", ["narrow", "usual"])
def test_looks(snap_compare: Snap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setattr(time, "time", lambda: 7500.0)
    app = open_with(Listed(*RUNS, HERE), tmp_path)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=press("w"))

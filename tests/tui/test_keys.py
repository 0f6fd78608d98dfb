"""Every key does what the help screen says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Footer, Static

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.recorded import AFTER, Recorded, Script, commit
from tui.actions import ACTIONS, IN_EXPERIMENT
from tui.app import Cockpit
from tui.editor import run_editor
from tui.panels.results import Results, headings
from tui.patch import patch
from tui.screens.ask import Ask, Choose
from tui.screens.experiment import ExperimentScreen
from tui.screens.help import Help, items
from tui.screens.log import LogScreen
from tui.theme import THEMES

WIDE = (120, 40)


def training() -> Recorded:
    return Recorded(Script().night(6).propose(7).train(7).progress(7, 0.4).records)


def waiting() -> Recorded:
    return Recorded(Script().night(2).propose(3).add(ev.ApprovalRequested(3)).records)


async def settle(pilot: Pilot[int]) -> None:
    """Let workers, messages and one frame pass."""
    await pilot.pause()
    while any(not w.is_finished for w in pilot.app.workers if w.group != "default"):
        await pilot.pause(0.01)
    app = pilot.app
    assert isinstance(app, Cockpit)
    app.main.flush()
    await pilot.pause()


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("space", ev.Pause()),
        ("s", ev.StopTraining()),
        ("A", ev.SetMode(True)),
    ],
)
async def test_a_key_sends_its_command(cockpit: Open, key: str, command: ev.AnyCommand) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press(key)
        await settle(pilot)
        assert connection.sent == [command]


async def test_space_goes_on_when_paused(cockpit: Open) -> None:
    connection = training()
    connection.push(ev.Paused("paused by hand"))
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("space")
        await settle(pilot)
        assert connection.sent == [ev.Resume()]


async def test_a_waiting_candidate_is_shown_and_approved(cockpit: Open) -> None:
    connection = waiting()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert app.main.diff.after == AFTER
        assert "a approves" in "".join(item.body.plain for item in app.main.diff.items)
        await pilot.press("a")
        await settle(pilot)
        assert connection.sent == [ev.Approve(3)]


async def test_rejecting_asks_for_the_reason(cockpit: Open) -> None:
    connection = waiting()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("r")
        assert isinstance(pilot.app.screen, Ask)
        await pilot.press(*"too slow", "enter")
        await settle(pilot)
        assert connection.sent == [ev.Reject("too slow", 3)]


async def test_escape_takes_a_question_back(cockpit: Open) -> None:
    connection = waiting()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("r", *"no", "escape")
        await settle(pilot)
        assert connection.sent == []
        assert len(pilot.app.screen_stack) == 1


async def test_steering_sends_what_was_typed(cockpit: Open) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("i", *"try q [b]", "enter")
        await settle(pilot)
        assert connection.sent == [ev.Steer("try q [b]")]


@pytest.mark.parametrize(("key", "now"), [("a", False), ("n", True)])
async def test_stopping_the_engine_asks_first(cockpit: Open, key: str, now: bool) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("Q")
        assert isinstance(pilot.app.screen, Choose)
        assert connection.sent == []
        await pilot.press(key)
        await settle(pilot)
        assert connection.sent == [ev.StopEngine(now=now)]


def test_the_editor_gives_back_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\necho "# mine" >> "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    assert run_editor(AFTER, ".py") == AFTER + "# mine\n"
    monkeypatch.setenv("VISUAL", "false")
    with pytest.raises(ValueError, match="false ended with code 1"):
        run_editor(AFTER, ".py")


async def test_detaching_leaves_the_engine_alone(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("q")
    assert app.return_value == 0
    assert connection.sent == []
    assert "attach --tag nov23" in app.last_words


async def test_enter_opens_the_experiment_under_the_cursor_and_brackets_walk(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("down", "down", "enter")
        await settle(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentScreen)
        assert screen.n == 5
        await pilot.press("left_square_bracket")
        assert screen.n == 4
        await pilot.press("right_square_bracket", "right_square_bracket")
        assert screen.n == 6
        for key in "12345":
            await pilot.press(key)
            await settle(pilot)
        await pilot.press("escape")
        assert len(pilot.app.screen_stack) == 1


async def test_a_verdict_is_changed_only_after_a_yes(cockpit: Open) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("down", "enter")
        await settle(pilot)
        await pilot.press("D")
        assert isinstance(pilot.app.screen, Choose)
        await pilot.press("y")
        await settle(pilot)
        assert connection.sent == [ev.Override(6, "discard", "by hand")]


async def test_the_cursor_stays_on_its_experiment_when_rows_come(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("down", "down")
        assert app.main.results.selected == 5
        connection.push(ev.ExperimentStarted(8, commit(7)))
        await settle(pilot)
        assert app.main.results.numbers[0] == 8
        assert app.main.results.selected == 5
        await pilot.press("left_square_bracket")
        assert app.main.results.selected == 4
        await pilot.press("b")
        assert app.main.results.selected == app.link.state.incumbent


async def test_filter_and_sort(cockpit: Open) -> None:
    app = cockpit(Script().night(12))
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"status:crash", "enter")
        await settle(pilot)
        assert app.main.results.numbers == [12, 5]
        await pilot.press("escape")
        await settle(pilot)
        assert app.main.results.numbers == list(range(12, 0, -1))
        await pilot.press("o")
        await settle(pilot)
        assert app.main.results.numbers == list(range(1, 13))
        await pilot.press("o")
        await settle(pilot)
        values = [app.link.state.experiment(n).value for n in app.main.results.numbers]
        known = [v for v in values if v is not None]
        assert known == sorted(known)
        assert values[: len(known)] == known


async def test_copy_goes_through_the_terminal(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("y")
        assert app.clipboard == commit(7)


async def test_panels_zoom_and_narrow_screens(cockpit: Open) -> None:
    app = cockpit(training())
    panels = ("#agent", "#diff", "#results-panel", "#plot")

    def shown() -> list[str]:
        return [name for name in panels if app.screen.query_one(name).display]

    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert shown() == list(panels)
        await pilot.press("2", "z")
        assert shown() == ["#diff"]
        await pilot.press("1")
        assert shown() == ["#agent"]
        await pilot.press("z")
        assert shown() == list(panels)
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        assert shown() == ["#agent"]
        await pilot.press("4")
        assert shown() == ["#plot"]
        assert app.screen.query_one("#training").display


async def test_follow_stops_on_scrolling_up_and_comes_back(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("1", "up", "up")
        await settle(pilot)
        before = app.main.transcript.scroll_offset.y
        for i in range(30):
            connection.push(ev.AgentDelta(8, "text", f"paragraph {i}", id=str(i)))
        await settle(pilot)
        assert app.main.transcript.scroll_offset.y == before
        await pilot.press("f")
        await settle(pilot)
        assert app.main.transcript.is_vertical_scroll_end


async def test_thoughts_and_tool_calls_open_with_enter(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("1")
        assert "eps=1e-6" not in app.main.transcript.items[-1].body.plain
        await pilot.press("enter")
        assert "eps=1e-6" in app.main.transcript.items[-1].body.plain
        assert len(pilot.app.screen_stack) == 1


async def test_split_wrap_theme_and_order_are_remembered(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=(200, 50)) as pilot:
        await settle(pilot)
        await pilot.press("d", "w", "o", "t")
        assert app.theme == THEMES[1].name
        assert app.main.diff.split
    again = cockpit(training())
    async with again.run_test(size=(200, 50)) as pilot:
        await settle(pilot)
        assert again.theme == THEMES[1].name
        assert (again.main.diff.split, again.main.diff.wrap) == (True, True)
        assert again.main.results.order == "oldest first"


async def test_hunks_log_and_help(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert len(app.main.diff.hunks) == 2
        await pilot.press("n", "N", "l")
        assert isinstance(app.screen, LogScreen)
        await pilot.press("escape", "question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        assert len(app.screen_stack) == 1


async def test_the_footer_offers_only_keys_that_work(cockpit: Open) -> None:
    def offered(app: Cockpit) -> set[str]:
        assert app.screen.query_one(Footer)
        return {b.binding.action for b in app.screen.active_bindings.values() if b.enabled and b.binding.show}

    async with (app := cockpit(training())).run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert "stop_training" in offered(app)
        assert "approve" not in offered(app)
    async with (app := cockpit(waiting())).run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert {"approve", "reject", "edit"} <= offered(app)
        assert "stop_training" not in offered(app)


def test_every_key_is_in_the_help_screen() -> None:
    text = "\n".join(item.body.plain for item in items())
    for action in (*ACTIONS, *IN_EXPERIMENT):
        assert action.help in text


@pytest.mark.parametrize(("key", "allow"), [("a", True), ("r", False)])
async def test_a_cli_agent_that_asks_leave_is_answered(cockpit: Open, key: str, allow: bool) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        connection.push(ev.PermissionAsked(8, "8.1", "pip install [torch]", "execute"))
        await settle(pilot)
        assert "pip install" in str(app.main.transcript.border_subtitle)
        await pilot.press(key)
        await settle(pilot)
        assert connection.sent == [ev.Permit(allow, "8.1")]
        connection.push(ev.PermissionAnswered(8, "8.1", allow))
        await settle(pilot)
        assert not app.main.transcript.border_subtitle


async def test_keys_of_an_experiment(cockpit: Open, tmp_path: Path) -> None:
    connection = training()
    connection.state.repository = str(tmp_path / "repo")
    (tmp_path / "repo/.autoresearch/nov23").mkdir(parents=True)
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        app.main.action_open(3)
        await settle(pilot)
        await pilot.press("y")
        assert app.clipboard == commit(3)
        await pilot.press("Y")
        assert app.clipboard.startswith("--- a/nanogpt/train.py\n+++ b/nanogpt/train.py\n@@ ")
        await pilot.press("x")
        assert (tmp_path / "repo/.autoresearch/nov23/0003.patch").read_text() == app.clipboard
        await pilot.press("R")
        await settle(pilot)
        assert connection.sent == [ev.RunAgain(3)]


def test_a_patch_applies(tmp_path: Path) -> None:
    before, after = "a = 1\nb = 2\nc = 3", "a = 1\nb = 20\nc = 3\nd = 4\n"
    (tmp_path / "t.py").write_text(before)
    text = patch(ev.ExperimentDetail(1, "t.py", before, after))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=text, text=True, check=True)
    assert (tmp_path / "t.py").read_text() == after


async def test_a_refused_command_says_why(cockpit: Open) -> None:
    connection = training()
    connection.refuse = "no [training] run to stop"
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("s")
        await settle(pilot)
        assert [n.message for n in app._notifications] == ["no [training] run to stop"]


def queue() -> Recorded:
    """Approval mode: 3 is approved, 4 and 5 wait."""
    script = Script().night(2).add(ev.ModeSet(True)).propose(3).propose(4).propose(5)
    script.add(ev.ApprovalRequested(3), ev.Approved(3), ev.ApprovalRequested(4), ev.ApprovalRequested(5))
    return Recorded(script.records)


async def test_in_approval_mode_the_cursor_picks_the_candidate(cockpit: Open) -> None:
    connection = queue()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert "candidate 4" in str(app.main.diff.border_title)  # it waits longest, wherever the cursor is
        text = "".join(item.body.plain for item in app.main.diff.items)
        assert "queue: #3 approved  #4 waits  #5 waits" in text
        await pilot.press("j", "k")
        await settle(pilot)
        assert "candidate 5" in str(app.main.diff.border_title)
        await pilot.press("a", "u")
        await settle(pilot)
        await pilot.press("j", "j", "r", *"no", "enter")
        await settle(pilot)
        assert connection.sent == [ev.Approve(5), ev.Approve(5, first=True), ev.Reject("no", 3)]


async def test_keys_act_on_the_candidate_that_is_open(cockpit: Open) -> None:
    connection = queue()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("j", "k", "enter", "a", "left_square_bracket", "u")
        await settle(pilot)
        assert connection.sent == [ev.Approve(5), ev.Approve(4, first=True)]
        app = pilot.app
        assert isinstance(app, Cockpit)
        connection.push(ev.Paused("a record that paints every panel"))
        await settle(pilot)
        await pilot.press("escape", "a")
        await settle(pilot)
        assert "candidate 5" in str(app.main.diff.border_title)  # the panel below kept to what its cursor picked
        assert connection.sent[-1] == ev.Approve(5)


async def test_what_the_audit_finds_stands_above_the_diff(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        connection.push(ev.CandidateEdited(8, "nanogpt/train.py", "a", AFTER, ["line 3: reads a file"]))
        await settle(pilot)
        assert app.main.diff.items[0].body.plain == "audit: line 3: reads a file"


async def test_a_stopped_engine_trains_nothing(cockpit: Open) -> None:
    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        connection.push(ev.EngineStopped("stopped by hand"))
        await settle(pilot)
        shown = str(pilot.app.query_one("#bar", Static).content)
        assert shown == "the engine stopped: stopped by hand"


async def test_headings_follow_the_width(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        for size in ((80, 24), (200, 50), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.5)
            table = pilot.app.query_one(Results)
            assert str(pilot.app.query_one("#headings", Static).content) == headings(table.content_size.width)

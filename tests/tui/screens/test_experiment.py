"""The screen of one experiment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from textual.widgets import Static

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import AFTER, Recorded, Script, commit, night, queue, training
from tui.app import Cockpit
from tui.lines import Lines
from tui.screens.ask import Choose
from tui.screens.experiment import ExperimentScreen, summary, trainings


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


def test_each_training_says_where_it_ran_or_runs() -> None:
    script = Script().night(1).propose(2).train(2).add(ev.TrainingPlaced(2, 1, "node[7]"))
    e = script.state.experiment(2)
    assert "   on node[7]   budget" in trainings(e, script.state)[0].body.plain
    script.add(ev.TrainingFinished(2, 1, "finished", value=1.0, place="node8"))
    assert "   on node8   budget" in trainings(e, script.state)[0].body.plain
    assert " on " not in trainings(script.state.experiment(1), script.state)[0].body.plain


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
        assert "candidate 5" in str(app.main.diff.border_title)  # the panel below keeps to its cursor
        assert connection.sent[-1] == ev.Approve(5)


@pytest.mark.parametrize("tab", ["1", "2", "3", "4", "5"])
def test_experiment(cockpit: Open, snap_compare: Snap, tab: str) -> None:
    keys = ("b", "enter", tab)
    assert snap_compare(cockpit(night()), terminal_size=SIZES["usual"], run_before=press(*keys))


def test_crashed_experiment_narrow(cockpit: Open, snap_compare: Snap) -> None:
    keys = ("slash", *"status:crash", "enter", "enter")
    assert snap_compare(cockpit(night()), terminal_size=SIZES["narrow"], run_before=press(*keys))


async def test_keys_act_on_the_candidate_that_was_picked_below(cockpit: Open) -> None:
    connection = queue()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("j", "k")
        await settle(pilot)
        app.main.action_open(1)
        await settle(pilot)
        await pilot.press("a")
        await settle(pilot)
        assert connection.sent == [ev.Approve(5)]  # experiment 1 is no candidate


async def test_the_layout_of_the_diff_is_the_same_on_both_screens(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=(200, 50)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("d", "W")
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentScreen)
        assert (screen.diff.split, screen.diff.wrap) == (True, True)
        await pilot.press("escape")
        await settle(pilot)
        assert (app.main.diff.split, app.main.diff.wrap) == (True, True)


async def test_a_verdict_that_comes_while_it_is_open_is_shown(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        app.main.action_open(7)
        await settle(pilot)
        assert "● training" in str(app.screen.query_one("#summary Static", Static).content)
        connection.push(ev.Judged(7, "discard", commit(7), 1.2, 60.0, "discard: lower wins", 0.2))
        await settle(pilot)
        assert "✗ discard" in str(app.screen.query_one("#summary Static", Static).content)


def test_each_training_says_what_it_measured() -> None:
    script = Script().night(1)
    script.add(
        ev.TrainingStarted(1, 2, commit(1), 1338, 300.0),
        ev.TrainingFinished(1, 2, "crashed", "exit code 1: no [memory]"),
        ev.TrainingStarted(1, 3, commit(1), 1339, 300.0),
    )
    text = [item.body.plain for item in trainings(script.state.experiment(1), script.state)]
    assert text[0].startswith("training 1   seed 1337")
    assert "measured by the judge in" in text[1]
    assert "  exit code 1: no [memory]" in text
    assert text[-2:] == ["  under way", "3 trainings"]
    script.add(ev.EngineStopped("stopped by hand"))
    text = [item.body.plain for item in trainings(script.state.experiment(1), script.state)]
    assert text[-2] == "  stopped with the engine: it starts again"


def test_a_training_says_what_became_of_its_model() -> None:
    script = Script().night(1)
    for n in (2, 3):
        script.propose(n).train(n).add(
            ev.TrainingFinished(n, 1, "finished", value=2.0 - n / 10, model_bytes=174_500_000),
            ev.Judged(n, "discard" if n == 2 else "keep", commit(n), 2.0 - n / 10, 1.0, "verdict"),
        )
    state = script.state
    told = [[item.body.plain for item in trainings(state.experiment(n), state)] for n in (1, 2, 3)]
    assert [any("model" in line for line in lines) for lines in told] == [False, True, True]
    assert "  model of 174MB kept" in told[1]
    script.add(ev.Logged(3))
    assert "  model of 174MB deleted" in [item.body.plain for item in trainings(state.experiment(2), state)]
    assert "model kept" not in summary(state.experiment(2), state).plain
    assert "model kept" in summary(state.experiment(3), state).plain


async def test_its_files_are_loaded_and_again_for_a_neighbour(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        for key, n in (("enter", 7), ("left_square_bracket", 6)):
            await pilot.press(key)
            await settle(pilot)
            screen = pilot.app.screen
            assert isinstance(screen, ExperimentScreen)
            assert screen.diff.after == AFTER
            assert screen.query_one("#past-log", Lines).items[-2].body.plain == "val_bpb: 0.99"
            assert len(screen.query_one("#past-transcript", Lines).items) == 3
            assert screen.n == n


async def test_what_is_not_loaded_yet_is_not_said_to_be_missing(
    cockpit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, comes = training(), asyncio.Event()
    load = connection.experiment

    async def slowly(n: int) -> ev.ExperimentDetail:
        await comes.wait()
        return msgspec.structs.replace(await load(n), before="", after="", log="")

    monkeypatch.setattr(connection, "experiment", slowly)
    app = cockpit(connection)
    comes.set()  # the main screen loads the incumbent's curve
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        comes.clear()
        await pilot.press("enter")
        await pilot.pause()
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentScreen)
        panels = screen.diff, screen.query_one("#past-log", Lines)
        assert [panel.empty for panel in panels] == ["loading ..."] * 2
        comes.set()
        await settle(pilot)
        words = ["no commit: this was never finished", "it has printed nothing yet"]
        assert [panel.empty for panel in panels] == words


async def test_what_waits_is_not_said_never_to_train_and_is_not_trained_again(cockpit: Open) -> None:
    script = Script().night(2).add(ev.ModeSet(True))
    script.propose(3).propose(4).add(ev.ApprovalRequested(4), ev.Rejected(4, "no"))
    script.propose(5).add(ev.ApprovalRequested(5), ev.ExperimentStarted(6, commit(2)))
    connection = Recorded(script.records)
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        for n, words in (
            (3, "not trained yet: it waits"),
            (4, "it never trained"),
            (5, "not trained yet: it waits"),
            (6, "not trained yet: it waits"),
        ):
            app.main.action_open(n)
            await settle(pilot)
            screen = pilot.app.screen
            assert screen.query_one("#past-trainings", Lines).empty == words
            assert screen.query_one("#past-log", Lines).empty == words
            assert "again" not in offered(app), n
            await pilot.press("R", "escape")
        app.main.action_open(2)
        await settle(pilot)
        assert "again" in offered(app)
        await pilot.press("right_square_bracket")
        assert "again" not in offered(app)
        assert connection.sent == []


def offered(app: Cockpit) -> set[str]:
    """The actions that the keys of the screen can take now."""
    return {active.binding.action for active in app.screen.active_bindings.values() if active.enabled}


async def test_the_verdict_and_its_reason_can_be_read_whole_on_a_small_terminal(cockpit: Open) -> None:
    """What does not fit into the head is reached with its scrollbar; the rest of the screen stays."""
    long = "it promised much, and the next words say why that is not enough, " * 5
    script = Script().night(2).propose(3).train(3)
    script.add(ev.Judged(3, "discard", commit(3), 1.2, 60.0, f"{long}END", 0.2))
    async with cockpit(script).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("3", "enter")
        await settle(pilot)
        head, words = (
            pilot.app.screen.query_one("#summary"),
            pilot.app.screen.query_one("#summary Static", Static),
        )
        assert "(+0.2000, worse)" in str(words.content)
        assert head.size.height == words.size.height == 9, "all of it is seen"
        assert pilot.app.screen.query_one("#past-diff").size.height >= 10

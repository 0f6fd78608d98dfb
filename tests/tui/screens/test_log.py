"""The training log."""

from __future__ import annotations

from textual.pilot import Pilot

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import Recorded, Script, commit, night, training
from tui.lines import Lines
from tui.screens.log import LogScreen


def test_log(cockpit: Open, snap_compare: Snap) -> None:
    assert snap_compare(cockpit(night()), terminal_size=SIZES["usual"], run_before=press("l"))


async def test_new_lines_appear_while_the_log_is_open(cockpit: Open) -> None:
    def last(pilot: Pilot[int]) -> str:
        return pilot.app.screen.query_one(Lines).items[-1].body.plain

    connection = training()
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("l")
        await settle(pilot)
        assert last(pilot).startswith("step 00560")
        connection.push(ev.LogLines(7, 1, "[warning] \x1b[31mred"))
        await settle(pilot)
        assert last(pilot) == "[warning] [31mred"


async def test_the_key_that_opens_the_log_closes_it(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("l")
        assert isinstance(pilot.app.screen, LogScreen)
        await pilot.press("l")
        assert len(pilot.app.screen_stack) == 1


async def test_the_log_says_what_will_be_there_and_how_a_training_ended(cockpit: Open) -> None:
    connection = Recorded(Script().begin().records)
    async with cockpit(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("l")
        await settle(pilot)
        lines = pilot.app.screen.query_one(Lines)
        assert lines.render_line(0).text.startswith("nothing trains now: what a trainer prints")
        connection.push(*[record.event for record in Script().begin().propose(1).train(1).records[3:]])
        await settle(pilot)
        assert lines.render_line(0).text.rstrip() == "the trainer has not printed anything yet"
        for number in (1, 2):
            if number == 2:
                connection.push(ev.TrainingStarted(1, 2, commit(1), 1338, 300.0))
            connection.push(ev.LogLines(1, number, "---"))
            connection.push(ev.TrainingFinished(1, number, "finished", value=0.98 + number / 100))
            await settle(pilot)
            assert [item.body.plain for item in lines.items] == [
                "---",
                f"── training {number} measured {0.98 + number / 100:.4f}",
            ]
        assert str(lines.border_title) == "Training log · #1, training 2"
        assert [n.message for n in pilot.app._notifications] == ["#1 training 2 measured 1.0000"]

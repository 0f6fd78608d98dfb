"""The table of results."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from textual.widgets import Static

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import Recorded, Script, commit, night, training
from tui.panels.results import WHY, Results, evidence, headings, why
from tui.panels.training import TrainingStrip
from tui.text import cut

NEEDED = "kept if val_bpb ends below about 0.9806"


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


async def test_headings_follow_the_width(cockpit: Open) -> None:
    async with cockpit(training()).run_test(size=WIDE) as pilot:
        for size in ((80, 24), (200, 50), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.5)
            table = pilot.app.query_one(Results)
            assert str(pilot.app.query_one("#headings", Static).content) == headings(table.content_size.width)


@pytest.mark.parametrize("size", ["narrow", "usual"])
def test_a_queue_of_candidates(cockpit: Open, snap_compare: Snap, size: str) -> None:
    script = Script().night(2).add(ev.ModeSet(True)).propose(3).propose(4)
    committed = script.records[-1].event
    assert isinstance(committed, ev.CandidateCommitted)
    script.add(msgspec.structs.replace(committed, findings=["line 3: open reads a file"], usage=ev.Usage()))
    script.propose(5)
    script.add(ev.ApprovalRequested(3), ev.Approved(3), ev.ApprovalRequested(4), ev.ApprovalRequested(5))
    assert snap_compare(cockpit(script), terminal_size=SIZES[size], run_before=press("2"))


def test_the_evidence_counts_standard_errors_and_trainings() -> None:
    script = Script().begin().propose(1).train(1).finish(1, 1.0).propose(2).train(2).finish(2, 0.996)
    assert evidence(script.state.experiment(1)) == ""
    assert evidence(script.state.experiment(2)).strip() == "5.0 se"
    script.add(
        ev.TrainingStarted(2, 2, commit(2), 1338, 300.0), ev.TrainingFinished(2, 2, "finished", value=0.998)
    )
    assert evidence(script.state.experiment(2)) == "5.0 se ×2"


async def test_rows_of_other_runs_stand_below_and_cannot_be_opened(cockpit: Open) -> None:
    connection = training()
    connection.rows = ["abcdef0\t0.990000\t44.0\tkeep\tfrom [another] run"]
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert app.main.results.numbers == [7, 6, 5, 4, 3, 2, 1, -1]
        await pilot.press("G")
        assert app.main.results.selected is None
        await pilot.press("enter")
        assert len(app.screen_stack) == 1


async def test_the_reason_and_what_a_verdict_needs_are_there_at_every_width(cockpit: Open) -> None:
    app = cockpit(night())
    async with app.run_test(size=(60, 24)) as pilot:
        await settle(pilot)
        await pilot.press("3")
        for size in ((60, 24), (80, 24), (110, 30), (160, 45)):
            await pilot.resize_terminal(*size)
            await settle(pilot)
            await settle(pilot)
            table, heads = app.main.results, str(app.screen.query_one("#headings", Static).content)
            column = heads.index("why")
            assert column + WHY < table.content_size.width, size
            for y, n in enumerate(table.numbers[: table.size.height]):
                e = app.link.state.experiment(n)
                assert table.render_line(y).text[column : column + WHY].rstrip() == cut(
                    why(e, app.link.state), WHY
                )
                assert why(e, app.link.state) or not e.judged
            strip = app.screen.query_one(TrainingStrip)
            assert str(strip.border_subtitle) == f"[$measure]{NEEDED}[/$measure]"
            assert len(NEEDED) < strip.size.width - 4


async def test_a_discard_without_a_number_shows_a_dash(cockpit: Open) -> None:
    connection = training()
    connection.rows = ["abcdef0\t0.000000\t44.0\tdiscard\tstopped early", "abcdef1\t0.990000\t44.0\tkeep\tb"]
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        table = app.main.results
        assert shown(table, -2).split()[:4] == ["·", "–", "✗", "discard"]
        assert shown(table, -1).split()[:4] == ["·", "0.9900", "✓", "keep"]
        connection.push(ev.Judged(7, "discard", commit(7), None, 60.0, "stopped early"))
        await settle(pilot)
        assert shown(table, 7).split()[:4] == ["7", "–", "✗", "discard"]


async def test_nothing_trains_in_the_table_once_the_engine_has_stopped(cockpit: Open) -> None:
    script = Script().night(2).propose(3).train(3).propose(4).train(4)
    script.add(ev.TrainingFinished(4, 1, "finished", value=0.9), ev.ExperimentStarted(5, commit(4)))
    connection = Recorded(script.propose(6).records)
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert "● training" in shown(app.main.results, 3)
        connection.push(ev.EngineStopped("stopped by hand"))
        await settle(pilot)
        table = app.main.results
        assert "■ stopped   starts again" in shown(table, 3)
        assert "■ stopped   judged later" in shown(table, 4)
        assert shown(table, 5).split()[-4:] == ["■", "stopped", "starts", "again"]
        assert "· queued    first in queue" in shown(table, 6)
        status = str(app.screen.query_one("#status", Static).content)
        assert "■ stopped" in status
        assert "● training" not in status
        assert app.screen.query_one(TrainingStrip).border_title == "Training"
        app.main.action_open(3)
        await settle(pilot)
        assert "■ stopped" in str(app.screen.query_one("#summary Static", Static).content)
        connection.push(ev.EngineStarted(1, "0.2.0", "claude", "m", 300.0))
        await settle(pilot)
        assert "● training" in str(app.screen.query_one("#summary Static", Static).content)


def shown(table: Results, n: int) -> str:
    """The row of an experiment as it stands on the screen."""
    return table.render_line(table.numbers.index(n)).text.rstrip()


def test_the_first_in_the_queue_is_told_from_the_others() -> None:
    state = Script().night(2).propose(3).train(3).propose(4).propose(5).state
    assert [why(state.experiment(n), state) for n in (3, 4, 5)] == ["", "first in queue", "in the queue"]
    state.apply(ev.Record(0, 0.0, ev.Approved(5, first=True)))
    assert [why(state.experiment(n), state) for n in (4, 5)] == ["in the queue", "first in queue"]


@pytest.mark.parametrize(
    ("direction", "delta", "words"),
    [
        ("min", -0.001, "better, in noise"),
        ("min", 0.001, "within noise"),
        ("max", 0.001, "better, in noise"),
        ("max", -0.001, "within noise"),
    ],
)
def test_a_better_number_within_noise_says_both(
    direction: Literal["min", "max"], delta: float, words: str
) -> None:
    state = Script().night(1).propose(2).train(2).state
    state.direction = direction
    state.apply(
        ev.Record(0, 0.0, ev.Judged(2, "discard", "c", 1.0, 60.0, "why", delta, short="within noise"))
    )
    assert why(state.experiment(2), state) == words
    assert len(words) <= WHY


async def test_a_description_that_is_cut_ends_with_an_ellipsis(cockpit: Open) -> None:
    app = cockpit(night())
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("3")
        await settle(pilot)
        table = app.main.results
        cut_row = table.render_line(table.numbers.index(22)).text.rstrip()
        assert cut_row.endswith("untie the [bold]head[/bol…")
        assert table.render_line(table.numbers.index(21)).text.rstrip().endswith("WIDTH 128 -> 160")
        await pilot.press("right", "right", "right")
        assert table.render_line(table.numbers.index(22)).text.rstrip().endswith("[bold]head[/bold]")

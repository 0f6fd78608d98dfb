"""The live view: the newest end of each stream, bounded."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev
from loop.live import CURVE_SHOWN, LOG_TAIL, TRANSCRIPT_TAIL, LiveView, SeatView


def view_of(*events: ev.AnyEvent) -> LiveView:
    """A view with one seat, on which training 1 of experiment 2 runs, after these events."""
    view = LiveView(seats={0: SeatView(2, 1, "starting")})
    for event in events:
        view.apply(event)
    return view


def test_a_seat_shows_phase_progress_and_log_of_its_training() -> None:
    step = ev.Progress(2, 1, 7, 0.5, loss=2.25)
    view = view_of(ev.PhaseChanged(2, 1, "training"), step, ev.LogLines(2, 1, "one\ntwo"))
    assert view.seats[0] == SeatView(2, 1, "training", step, [ev.CurvePoint(0.5, 2.25)], ["one", "two"])


def test_what_an_earlier_training_printed_is_not_shown_on_the_seat_of_another() -> None:
    view = view_of(ev.LogLines(2, 2, "later"), ev.LogLines(1, 1, "earlier"), ev.PhaseChanged(1, 1, "late"))
    assert view.seats[0] == SeatView(2, 1, "starting")
    assert view.seat_of(1, 1) is None
    assert view.seat_of(2, 1) is view.seats[0]


@pytest.mark.parametrize("loss", [None, math.nan, math.inf])
def test_progress_without_a_finite_loss_is_no_point_of_the_curve(loss: float | None) -> None:
    view = view_of(ev.Progress(2, 1, 7, 0.5, loss=loss))
    assert view.seats[0].curve == []
    assert view.seats[0].progress is not None


@given(st.integers(1, 5 * CURVE_SHOWN))
def test_a_curve_stays_bounded_and_keeps_its_first_point_and_its_order(steps: int) -> None:
    view = view_of(*(ev.Progress(2, 1, i, i / steps, loss=float(i)) for i in range(steps)))
    losses = [point.loss for point in view.seats[0].curve]
    assert min(steps, CURVE_SHOWN // 2) <= len(losses) <= CURVE_SHOWN
    assert losses == sorted(losses)
    assert losses[0] == 0.0


def test_only_the_newest_lines_and_messages_are_kept() -> None:
    lines = "\n".join(str(i) for i in range(LOG_TAIL + 5))
    deltas = [ev.AgentDelta(2, "text", str(i), id=str(i)) for i in range(TRANSCRIPT_TAIL + 5)]
    view = view_of(ev.LogLines(2, 1, lines), *deltas)
    assert (len(view.seats[0].log), view.seats[0].log[0]) == (LOG_TAIL, "5")
    assert (len(view.transcript), view.transcript[0].text) == (TRANSCRIPT_TAIL, "5")


@pytest.mark.parametrize(
    ("second", "joined"),
    [
        (ev.AgentDelta(2, "text", "b", id="x", t=2.0), True),
        (ev.AgentDelta(2, "text", "b", id="y"), False),  # another message
        (ev.AgentDelta(2, "thinking", "b", id="x"), False),  # another kind
        (ev.AgentDelta(3, "text", "b", id="x"), False),  # another experiment
        (ev.AgentDelta(2, "text", "b"), False),  # a message that is not streamed
    ],
)
def test_pieces_of_one_message_are_joined(second: ev.AgentDelta, joined: bool) -> None:
    first = ev.AgentDelta(2, "text", "a", id="x", tool="view", t=1.0)
    expected = [ev.AgentDelta(2, "text", "ab", "x", "view", 1.0)] if joined else [first, second]
    assert view_of(first, second).transcript == expected


def test_a_question_stays_until_it_is_answered() -> None:
    one, two = ev.PermissionAsked(2, "a", "run tests"), ev.PermissionAsked(2, "b", "read a file")
    assert view_of(one, two).asked == [one, two]
    assert view_of(one, two, ev.PermissionAnswered(2, "a", True)).asked == [two]
    assert view_of(one, ev.PermissionAnswered(2, "unknown", False)).asked == [one]


def test_the_newest_edit_machine_and_preparation_replace_the_ones_before() -> None:
    edits = [ev.CandidateEdited(2, "train.py", "a", text) for text in "bc"]
    machines = [ev.Telemetry(cpu, 4.0, 16.0) for cpu in (1.0, 2.0)]
    view = view_of(*edits, *machines, ev.Preparing("tokenizing"))
    assert (view.edited, view.telemetry, view.preparing) == (edits[1], machines[1], "tokenizing")
    assert len(view.edits) == 1
    view.apply(ev.Preparing(""))
    assert view.preparing == ""


def test_each_proposal_keeps_its_newest_edit_and_the_machine_ten_minutes() -> None:
    edits = [ev.CandidateEdited(n, "train.py", "a", f"{n}{i}") for i in range(2) for n in range(1, 11)]
    view = view_of(*edits, edits[-4])
    assert [edit.n for edit in view.edits] == [3, 4, 5, 6, 8, 9, 10, 7]
    assert (view.edit_of(5), view.edit_of(1), view.edited) == (edits[14], None, edits[-4])
    assert view_of(*[ev.Telemetry(i, 1.0, 2.0) for i in range(200)]).measured[0] == ev.Telemetry(80, 1.0, 2.0)


def test_durable_events_and_notices_leave_the_view_as_it_is() -> None:
    assert view_of(ev.Paused("by hand"), ev.Notice("info", "hello"), ev.Logged(1)) == view_of()


def test_a_view_survives_the_way_to_a_client() -> None:
    view = view_of(
        ev.Progress(2, 1, 7, 0.5, 2.25), ev.AgentDelta(2, "text", "a"), ev.Telemetry(1.0, 2.0, 3.0)
    )
    assert msgspec.json.decode(ev.encode(view), type=LiveView) == view


def test_progress_without_a_phase_means_training_and_a_summary_the_end() -> None:
    """The trainer of karpathy/autoresearch prints no `phase:` lines."""
    view = SeatView(1, 1, "starting")
    view.take(ev.LogLines(1, 1, "Vocab size: 8,192\n---"))
    assert view.phase == "starting"
    view.take(ev.Progress(1, 1, 5, 0.1, loss=2.0))
    assert view.phase == "training"
    view.take(ev.LogLines(1, 1, "---\nval_bpb: 0.997900"))
    assert view.phase == "done"


def test_a_trainers_own_phases_are_believed() -> None:
    view = SeatView(1, 1, "starting")
    view.take(ev.PhaseChanged(1, 1, "compiling"))
    view.take(ev.Progress(1, 1, 1, 0.0))
    assert view.phase == "compiling"

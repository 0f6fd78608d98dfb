"""The fold: what a run's state is after its events, on a table of short histories and on random ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev
from loop.state import BY_HAND, RunState, fold

BASE, A, B = "0" * 40, "a" * 40, "b" * 40
USAGE = ev.Usage(1000, 500, 100, 0, 0.5, 2.0)


def records(*events: ev.AnyEvent) -> list[ev.Record]:
    """The events as records, a second apart: durable ones with numbers, live ones without."""
    found, seq = [], 0
    for t, event in enumerate(events, 1):
        seq += not isinstance(event, ev.Live)
        found.append(ev.Record(0 if isinstance(event, ev.Live) else seq, float(t), event))
    return found


def after(*events: ev.AnyEvent) -> RunState:
    return fold(records(*events))


def finished(n: int, training: int = 1, value: float | None = 1.0, **fields: Any) -> ev.TrainingFinished:
    return ev.TrainingFinished(
        n, training, "finished" if value is not None else "crashed", value=value, **fields
    )


def judged(n: int, status: ev.Status, commit: str, value: float | None) -> ev.Judged:
    return ev.Judged(n, status, commit, value, 0.5, f"reason {n}")


BEGUN: list[ev.AnyEvent] = [
    ev.RunCreated("t", "/r", BASE, "train.py", ["python"], "val_bpb", "min"),
    ev.EngineStarted(7, "0", "claude", "opus", approval=False, limits=ev.Limits(max_experiments=9)),
]
BASELINE: list[ev.AnyEvent] = [
    *BEGUN,
    ev.ExperimentStarted(1, BASE),
    ev.CandidateCommitted(1, BASE, BASE, "baseline", author="engine"),
    ev.TrainingStarted(1, 1, BASE, 1337, 300.0),
    finished(1, value=2.0),
    judged(1, "keep", BASE, 2.0),
    ev.Logged(1),
]
QUEUED: list[ev.AnyEvent] = [
    *BASELINE, ev.ExperimentStarted(2, BASE), ev.CandidateCommitted(2, A, BASE, "idea", usage=USAGE),
]  # fmt: skip
TRAINED: list[ev.AnyEvent] = [*QUEUED, ev.TrainingStarted(2, 1, A, 1337, 300.0), finished(2, value=1.5)]
KEPT: list[ev.AnyEvent] = [*TRAINED, judged(2, "keep", A, 1.5), ev.Logged(2)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], {"phase": "starting", "incumbent": None, "best": None, "rows": 0}),
        (BEGUN, {"tag": "t", "base": BASE, "incumbent_commit": BASE, "created_at": 1.0, "seq": 2}),
        (BASELINE, {"incumbent": 1, "best": 2.0, "baseline": 2.0, "rows": 1, "kept": 1, "open": []}),
        (QUEUED, {"phase": "proposing", "open": [2], "usage": USAGE, "training": None}),
        ([*QUEUED, ev.TrainingStarted(2, 1, A, 1337, 300.0)], {"phase": "training", "open": [2]}),
        (TRAINED, {"phase": "judging", "under_way": [], "incumbent": 1}),
        ([*TRAINED, judged(2, "keep", A, 1.5)], {"incumbent": 2, "rows_due": [2], "open": [], "best": 1.5}),
        (KEPT, {"incumbent_commit": A, "baseline": 2.0, "rows_due": [], "kept": 2}),
        ([*TRAINED, judged(2, "discard", A, 2.5)], {"incumbent": 1, "rows": 2, "kept": 1}),
        ([*TRAINED, judged(2, "crash", A, None)], {"incumbent": 1, "crashed": 1}),
        ([*KEPT, ev.Overridden(2, "discard")], {"incumbent": 1, "rows_due": [2], "best": 2.0}),
        ([*KEPT, ev.Overridden(1, "keep")], {"incumbent": 1, "rows_due": [1]}),
        ([*BASELINE, ev.Overridden(1, "discard")], {"incumbent": None, "incumbent_commit": BASE}),
        ([*KEPT, ev.RerunAsked(2)], {"reruns_asked": [2]}),
        (
            [*KEPT, ev.RerunAsked(2), ev.TrainingStarted(2, 2, A, 1338, 300.0, why=BY_HAND)],
            {"reruns_asked": [], "open": []},
        ),
        (
            [*KEPT, ev.RerunAsked(2), ev.TrainingStarted(2, 2, A, 1338, 300.0, why="measure the noise")],
            {"reruns_asked": [2]},
        ),
        ([*BEGUN, ev.Steered("one"), ev.Steered("two")], {"messages": ["one", "two"]}),
        ([*QUEUED, ev.Rejected(2, "timid")], {"open": [], "messages": ["Experiment 2 was rejected: timid"]}),
        ([*BEGUN, ev.Paused("by hand")], {"paused": "by hand", "phase": "paused"}),
        ([*BASELINE, ev.Paused("x"), ev.Resumed()], {"paused": None, "judged_at_resume": 1}),
        ([*BEGUN, ev.EngineStopping("asked to")], {"stopping": "asked to", "stopped": None}),
        ([*BEGUN, ev.EngineStopped("done")], {"stopped": "done", "phase": "stopped"}),
        ([*BEGUN, ev.EngineStopping("x"), BEGUN[1]], {"stopping": None, "stopped": None}),
        ([*BEGUN, ev.EngineStopped("x"), BEGUN[1]], {"stopping": None, "stopped": None}),
        ([*BEGUN, ev.ModeSet(True)], {"approval": True}),
        ([*BEGUN, ev.LimitsSet(ev.Limits(max_hours=2))], {"limits": ev.Limits(max_hours=2)}),
        ([*QUEUED, ev.Spent(2, USAGE)], {"usage": USAGE + USAGE}),
        ([*BEGUN, ev.Preparing("tokenizing")], {"phase": "preparing"}),
        ([*QUEUED, ev.ApprovalRequested(2)], {"phase": "waiting"}),
    ],
)  # fmt: skip
def test_the_state_after_a_short_history(events: list[ev.AnyEvent], expected: dict[str, Any]) -> None:
    state = after(*events)
    texts = {"messages": [message.text for message in state.steering]}
    assert {name: texts.get(name) or getattr(state, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (QUEUED, {"phase": "queued", "commit": A, "description": "idea", "usage": USAGE, "queued_seq": 10}),
        ([*QUEUED, ev.ApprovalRequested(2)], {"phase": "waiting", "approved": False}),
        ([*QUEUED, ev.ApprovalRequested(2), ev.Approved(2)], {"phase": "queued", "approved": True}),
        ([*QUEUED, ev.Rejected(2, "timid")], {"phase": "rejected", "reason": "timid", "finished_at": 11.0}),
        (TRAINED, {"phase": "judging", "values": [1.5], "judged": False}),
        ([*TRAINED, ev.RepairGivenUp(2, "no idea")], {"no_repair": True}),
        (KEPT, {"phase": "keep", "value": 1.5, "logged": True, "memory_gb": 0.5, "finished_at": 13.0}),
        (KEPT, {"queued_seq": 0, "proposing_seq": 0}),
        ([*KEPT, ev.Overridden(2, "discard", "no")], {"reason": "discard by hand: no", "by_hand": True}),
        ([*QUEUED, ev.ExperimentStarted(2, A)], {"phase": "proposing", "commit": "", "usage": USAGE}),
    ],
)  # fmt: skip
def test_the_last_experiment_after_a_short_history(
    events: list[ev.AnyEvent], expected: dict[str, Any]
) -> None:
    e = after(*events).experiments[-1]
    assert {name: getattr(e, name) for name in expected} == expected


def test_a_refused_candidate_is_rejected_at_once_and_the_agent_is_told() -> None:
    state = after(
        *BASELINE,
        ev.ExperimentStarted(2, BASE),
        ev.CandidateCommitted(2, A, BASE, "idea", refused="it opens"),
    )
    assert (state.experiment(2).phase, state.open) == ("rejected", [])
    assert [m.text for m in state.steering] == ["The engine says: Experiment 2 was rejected: it opens"]


@pytest.mark.parametrize("seen", [{"steered": 1}, {"heard": [9]}])
def test_a_proposal_takes_the_messages_away_that_it_has_heard_and_no_others(seen: dict[str, Any]) -> None:
    """Journals of 0.1.0 count the messages."""
    state = after(
        *BASELINE, ev.Steered("one"), ev.ExperimentStarted(2, BASE), ev.Steered("two"),
        ev.CandidateCommitted(2, A, BASE, "idea", **seen),
    )  # fmt: skip
    assert [m.text for m in state.steering] == ["two"]


def test_of_two_conversations_neither_takes_away_what_only_the_other_has_heard() -> None:
    """Both have heard the first message, one of them the second as well; the third came after that."""
    both = [
        *BASELINE, ev.ExperimentStarted(2, BASE), ev.ExperimentStarted(3, BASE),
        ev.Steered("one"), ev.Steered("two"), ev.Steered("three"),
    ]  # fmt: skip
    first = ev.CandidateCommitted(2, A, BASE, "idea", heard=[11])
    second = ev.CandidateCommitted(3, "d" * 40, BASE, "idea", heard=[11, 12])
    for order in ([first, second], [second, first]):
        assert [m.text for m in after(*both, *order).steering] == ["three"]
    assert [m.text for m in after(*both, first).steering] == ["two", "three"]


def test_one_more_training_moves_the_mean_and_remembers_the_row_that_stands_in_the_table() -> None:
    state = after(*KEPT, ev.TrainingStarted(2, 2, A, 1338, 300.0), finished(2, 2, 1.7))
    e = state.experiment(2)
    assert e.value == pytest.approx(1.6)
    assert (e.phase, e.logged, e.replaced) == ("keep", False, "aaaaaaa\t1.500000\t0.5\tkeep\tidea")
    assert state.rows_due == [2]


def test_more_trainings_of_the_unchanged_code_move_the_baseline() -> None:
    state = after(*KEPT, ev.TrainingStarted(1, 2, BASE, 1338, 300.0), finished(1, 2, 2.2))
    assert state.baseline == pytest.approx(2.1)


def test_a_rerun_that_gives_no_number_changes_nothing() -> None:
    state = after(*KEPT, ev.TrainingStarted(2, 2, A, 1338, 300.0), finished(2, 2, None))
    assert (state.experiment(2).value, state.experiment(2).phase) == (1.5, "keep")


def test_a_model_is_on_disk_until_a_verdict_is_logged_after_which_it_is_not_worth_keeping() -> None:
    first = [*TRAINED[:-1], finished(2, value=1.5, model_bytes=9)]
    assert after(*first).models == [(2, 1)]
    kept = [*first, judged(2, "keep", A, 1.5), ev.Logged(2)]
    assert after(*kept).models == [(2, 1)]
    assert after(*kept, ev.Overridden(2, "discard"), ev.Logged(2)).models == []
    discarded = [*first, judged(2, "discard", A, 1.5)]
    assert (after(*discarded).models, after(*discarded).models_worth_keeping) == ([(2, 1)], [])
    assert after(*discarded, ev.Logged(2)).models == []
    by_hand = after(*discarded, ev.Logged(2), ev.Overridden(2, "keep"), ev.Logged(2))
    assert (by_hand.incumbent, by_hand.models) == (2, [])  # what was deleted does not come back


@pytest.mark.parametrize(("most", "kept"), [(0, [(3, 1)]), (1, [(2, 1), (3, 1)])])
def test_the_engine_says_how_many_models_are_kept_besides_the_incumbents(
    most: int, kept: list[tuple[int, int]]
) -> None:
    state = after(
        *TRAINED[:1],
        ev.EngineStarted(8, "0", "claude", keep_models=most),
        *TRAINED[2:-1],
        finished(2, value=1.5, model_bytes=9),
        judged(2, "keep", A, 1.5),
        ev.Logged(2),
        ev.ExperimentStarted(3, A),
        ev.CandidateCommitted(3, B, A, "idea"),
        ev.TrainingStarted(3, 1, B, 1337, 300.0),
        finished(3, value=1.2, model_bytes=9),
        judged(3, "keep", B, 1.2),
        ev.Logged(3),
    )
    assert state.models == kept


def test_a_training_that_starts_again_is_the_same_training() -> None:
    again = ev.TrainingStarted(2, 1, A, 1337, 300.0)
    state = after(*QUEUED, again, ev.TrainingLost(2, 1, 1, "machine gone"), again)
    assert state.under_way == [again]
    assert [t.number for t in state.experiment(2).trainings] == [1]


def test_a_lost_training_counts_its_attempts() -> None:
    state = after(*QUEUED, ev.TrainingStarted(2, 1, A, 1337, 300.0), ev.TrainingLost(2, 1, 1, "machine gone"))
    assert state.experiment(2).trainings[0].attempt == 2
    assert state.trains(2)


def test_with_several_seats_each_training_has_its_own_view_and_the_longest_is_shown() -> None:
    state = after(
        *QUEUED,
        ev.ExperimentStarted(3, BASE),
        ev.CandidateCommitted(3, B, BASE, "other"),
        ev.TrainingStarted(2, 1, A, 1337, 300.0, seat=1),
        ev.TrainingStarted(3, 1, B, 1337, 300.0, seat=0),
        ev.LogLines(3, 1, "three"),
        ev.LogLines(2, 1, "two"),
    )
    assert [t.n for t in state.under_way] == [2, 3]
    assert state.training is state.experiment(2)
    assert (state.seat.n, state.seat.log) == (2, ["two"])
    assert state.live.seats[0].log == ["three"]


def test_an_experiment_is_judged_only_when_all_its_trainings_have_ended() -> None:
    started = [ev.TrainingStarted(2, i, A, 1336 + i, 300.0, seat=i) for i in (1, 2)]
    state = after(*QUEUED, *started, finished(2, 1))
    assert state.experiment(2).phase == "training"
    state.apply(ev.Record(state.seq + 1, 99.0, finished(2, 2)))
    assert state.experiment(2).phase == "judging"


def test_the_queue_is_in_the_order_of_approval_with_what_is_to_be_first_in_front() -> None:
    events: list[ev.AnyEvent] = [*BASELINE]
    for n in (2, 3, 4, 5):
        events += [ev.ExperimentStarted(n, BASE), ev.CandidateCommitted(n, f"{n}" * 40, BASE, "idea")]
        events += [ev.ApprovalRequested(n)]
    state = after(*events)
    assert [e.n for e in state.queue] == [2, 3, 4, 5]
    assert state.waiting is state.experiment(2)
    state = after(*events, ev.Approved(4), ev.Approved(3), ev.Approved(5, first=True))
    assert [e.n for e in state.queue] == [5, 4, 3, 2]


def test_an_engine_that_starts_shows_the_trainings_that_outlived_the_one_before() -> None:
    state = after(
        *QUEUED, ev.TrainingStarted(2, 1, A, 1337, 300.0, seat=3), ev.AgentDelta(3, "text", "hm"), BEGUN[1]
    )
    assert state.live.transcript == []
    assert (state.live.seats[3].n, state.live.seats[3].phase) == (2, "starting")


@pytest.mark.parametrize("verified", [True, False])
def test_there_is_a_judge_when_it_measured_the_unchanged_code(verified: bool) -> None:
    started = ev.TrainingStarted(1, 1, BASE, 1337, 300.0)
    state = after(*BASELINE[:4], started, finished(1, value=2.0, verified=verified))
    assert state.has_judge == verified


@pytest.mark.parametrize(("lasted", "uses"), [(299.0, False), (301.0, True)])
def test_the_unchanged_code_uses_its_budget_when_it_lasts_that_long(lasted: float, uses: bool) -> None:
    state = after(*BASELINE[:5], finished(1, value=2.0, total_seconds=lasted))
    assert state.uses_budget == uses


@pytest.mark.parametrize(
    ("ends", "now", "rate"),
    [
        ([], 0.0, None),
        ([100.0], 200.0, None),
        ([0.0, 360.0], 400.0, 10.0),
        ([float(360 * i) for i in range(20)], 7000.0, 10.0),
        ([0.0, 360.0], 3600.0, 1.0),  # nothing has ended for so long that the wait counts
    ],
)
def test_experiments_an_hour(ends: list[float], now: float, rate: float | None) -> None:
    events: list[ev.Record] = []
    for n, t in enumerate(ends, 1):
        for event in (ev.ExperimentStarted(n, BASE), judged(n, "discard", A, 1.0)):
            events.append(ev.Record(len(events) + 1, t, event))
    assert fold(events).per_hour(now) == rate


def test_a_higher_metric_is_better_when_the_direction_says_so() -> None:
    assert RunState(direction="max").better(2.0, 1.0)
    assert RunState(direction="min").better(1.0, 2.0)
    assert not RunState(direction="min").better(1.0, 1.0)


@pytest.mark.parametrize("n", [0, -1, 3])
def test_an_experiment_that_does_not_exist_is_a_key_error(n: int) -> None:
    with pytest.raises(KeyError):
        after(*QUEUED).experiment(n)


# --- random histories ---


def possible(state: RunState) -> list[ev.AnyEvent]:
    """Events that an engine could record next."""
    n, k = len(state.experiments) + 1, state.seq
    free = next(seat for seat in range(99) if seat not in {t.seat for t in state.under_way})
    found: list[ev.AnyEvent] = [
        ev.ExperimentStarted(n, state.incumbent_commit),
        ev.Steered(f"message {k}"),
        ev.Paused("by hand"),
        ev.Resumed(),
        ev.EngineStarted(k, "0", "search"),
        ev.EngineStopped("asked to"),
        ev.AgentDelta(n, "text", "so", id=str(k // 3)),
    ]
    for e in state.experiments:
        if e.phase in ("proposing", "queued") or (e.phase == "judging" and not e.values):
            candidate = ev.CandidateCommitted(e.n, f"{k:040x}", state.incumbent_commit, "idea", usage=USAGE)
            refused = msgspec.structs.replace(candidate, refused="it opens")
            seen = msgspec.structs.replace(candidate, heard=[m.id for m in state.steering])
            found += [candidate, refused, seen, ev.Spent(e.n, USAGE)]
        if e.phase == "queued":
            found += [ev.ExperimentStarted(e.n, state.incumbent_commit), ev.ApprovalRequested(e.n)]
        if e.phase == "waiting":
            found += [ev.Approved(e.n, first=k % 2 == 0), ev.Rejected(e.n, "timid")]
        if e.phase in ("queued", "training", "judging", "keep", "discard", "crash"):
            number = len(e.trainings) + 1
            found.append(ev.TrainingStarted(e.n, number, e.commit, 1336 + number, 300.0, free))
        if e.phase == "judging":
            value = sum(e.values) / len(e.values) if e.values else None
            status: ev.Status = "crash" if value is None else "keep" if k % 2 else "discard"
            found += [judged(e.n, status, e.commit, value), ev.RepairGivenUp(e.n, "no idea")]
        if e.judged:
            found += [ev.RerunAsked(e.n), ev.Overridden(e.n, "keep" if k % 3 else "discard")]
    found += [ev.Logged(number) for number in state.rows_due[:1]]
    for t in state.under_way:
        found += [t, ev.TrainingLost(t.n, t.training, 1, "gone"), ev.Progress(t.n, t.training, k, 0.5, 1.0)]
        found += [finished(t.n, t.training, None if k % 5 == 0 else 1 + k / 100)]
    return found


@st.composite
def histories(draw: st.DrawFn) -> list[ev.Record]:
    state, found = fold(records(*BEGUN)), records(*BEGUN)
    for choice in draw(st.lists(st.integers(0, 10_000), max_size=60)):
        options = possible(state)
        event = options[choice % len(options)]
        seq = 0 if isinstance(event, ev.Live) else state.seq + 1
        found.append(ev.Record(seq, found[-1].t + 1, event))
        state.apply(found[-1])
    return found


@given(histories())
def test_the_indexes_say_what_a_look_at_every_experiment_says(history: list[ev.Record]) -> None:
    state = RunState()
    for record in history:
        state.apply(record)
        assert state.open == [e.n for e in state.experiments if not e.judged and e.phase != "rejected"]
        assert sorted(state.rows_due) == [e.n for e in state.experiments if e.judged and not e.logged]
        running = [t.started for e in state.experiments for t in e.trainings if t.finished is None]
        assert sorted(state.under_way, key=repr) == sorted(running, key=repr)
        assert [e.n for e in state.experiments] == list(range(1, len(state.experiments) + 1))
        assert state.incumbent is None or state.experiment(state.incumbent).phase == "keep"


@given(histories(), st.floats(0, 1))
def test_a_client_that_attaches_late_has_the_state_of_one_that_was_there_from_the_start(
    history: list[ev.Record], share: float
) -> None:
    at = round(share * len(history))
    late = msgspec.json.decode(ev.encode(fold(history[:at])), type=RunState)
    for record in history[at:]:
        late.apply(msgspec.json.decode(ev.encode(record), type=ev.Record))
    assert late == fold(history)


@given(histories())
def test_durable_records_that_come_twice_change_nothing(history: list[ev.Record]) -> None:
    state, again = fold(history), fold(history)
    for record in history:
        if record.seq:
            again.apply(record)
    assert again == state

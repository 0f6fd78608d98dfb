"""When the engine ends or pauses by itself."""

from __future__ import annotations

import pytest

from loop import events as ev
from loop.judging.limits import reached
from loop.state import RunState, fold

C = "c" * 40


def state(limits: ev.Limits, *verdicts: ev.Status, dollars: float | None = None) -> RunState:
    """A run with these verdicts, its engine started at second 0."""
    events: list[ev.DurableEvent] = [
        ev.RunCreated("t", "/r", C, "train.py", []),
        ev.EngineStarted(1, "0", "search", limits=limits),
    ]
    for n, status in enumerate(verdicts, 1):
        events += [
            ev.ExperimentStarted(n, C),
            ev.CandidateCommitted(n, C, C, "idea", usage=ev.Usage(dollars=dollars)),
            ev.Judged(n, status, C, None if status == "crash" else 1.0, 0.0, f"reason {n}"),
        ]
    return fold(ev.Record(seq, 0.0, event) for seq, event in enumerate(events, 1))


@pytest.mark.parametrize(
    ("limits", "verdicts", "now", "reason"),
    [
        (ev.Limits(), (), 1e9, None),
        (ev.Limits(max_experiments=3), ("keep", "discard"), 0, None),
        (ev.Limits(max_experiments=3), ("keep", "discard", "crash"), 0, "limit reached: 3 experiments"),
        (ev.Limits(max_experiments=1), ("keep",), 0, "limit reached: 1 experiment"),
        (ev.Limits(max_hours=1), ("keep",), 3600, "limit reached: 1 hour"),
        (ev.Limits(max_crashes=1), ("keep", "crash"), 0, "1 crash in a row, the last: reason 2"),
        (ev.Limits(max_hours=2), ("keep",), 7199, None),
        (ev.Limits(max_hours=2), ("keep",), 7200, "limit reached: 2 hours"),
        (ev.Limits(max_hours=2), ("keep",), -3600, None),
        (ev.Limits(max_cost=1), ("keep", "keep"), 0, "limit reached: $1.20 spent of $1.00"),
        (ev.Limits(max_cost=2), ("keep", "keep"), 0, None),
        (ev.Limits(max_crashes=2), ("keep", "crash"), 0, None),
        (ev.Limits(max_crashes=2), ("crash", "keep", "crash"), 0, None),
        (ev.Limits(max_crashes=2), ("keep", "crash", "crash"), 0, "2 crashes in a row, the last: reason 3"),
        (ev.Limits(), ("crash",), 0, "the baseline gave no val_bpb: reason 1"),
    ],
)
def test_limits(limits: ev.Limits, verdicts: tuple[ev.Status, ...], now: float, reason: str | None) -> None:
    assert reached(state(limits, *verdicts, dollars=0.6), now) == reason


def test_an_unknown_price_is_no_limit_reached() -> None:
    assert reached(state(ev.Limits(max_cost=1), "keep", dollars=None), 0) is None

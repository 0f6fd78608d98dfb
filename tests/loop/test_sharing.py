"""Events of a long run share what is equal in them, and say the same as before."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev
from loop import sharing
from loop.sharing import share


def decoded(event: ev.DurableEvent) -> ev.AnyEvent:
    return ev.decode_record(ev.encode(ev.Record(1, 1.0, event))).event


def test_equal_values_are_one_object() -> None:
    commit = "c" * 40
    started = share(decoded(ev.TrainingStarted(1234, 1, commit, seed=1337, budget_s=300.0)))
    judged = share(decoded(ev.Judged(1234, "keep", commit, 1.0, 44.0, "better", incumbent=commit)))
    assert isinstance(started, ev.TrainingStarted)
    assert isinstance(judged, ev.Judged)
    assert started.commit is judged.commit is judged.incumbent
    assert started.n is judged.n
    finished = [share(decoded(ev.TrainingFinished(1, 1, "finished", summary={"depth": 8.5}))) for _ in "ab"]
    first, second = (f for f in finished if isinstance(f, ev.TrainingFinished))
    assert first.flags is second.flags
    assert first.summary["depth"] is second.summary["depth"]


@given(st.lists(st.one_of(st.integers(-3, 3), st.floats(allow_nan=False), st.booleans())), st.text())
def test_an_event_says_the_same_as_before(numbers: list[float], text: str) -> None:
    """Also where 1, 1.0 and True are equal, and whatever was remembered before."""
    summary: dict[str, float | str] = {str(i): number for i, number in enumerate(numbers)}
    for event in (
        ev.TrainingFinished(1, 1, "finished", text, memory_gb=1.0, summary=summary, flags=[text]),
        ev.Judged(1, "keep", text, 1.0, 0.0, text, evidence=text),
        ev.CandidateCommitted(1, text, text, text, findings=[text], combines=[1, 2]),
        ev.Steered(text),
    ):
        before = msgspec.json.encode(event)
        assert msgspec.json.encode(share(event)) == before
    assert sharing.NOTHING == []


def test_what_is_remembered_has_a_bound() -> None:
    for n in range(3 * sharing.POOL_MOST):
        share(ev.ExperimentStarted(n, "p"))
    assert len(sharing._pool) <= sharing.POOL_MOST + 1

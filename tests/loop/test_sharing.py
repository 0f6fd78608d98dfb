"""Events of a long run share what is equal in them, and say the same as before."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev
from loop import sharing
from loop.experiment import Experiment, Training
from loop.sharing import share, share_experiment


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
    finished = [share(decoded(ev.TrainingFinished(1, 1, "finished", total_seconds=325.5))) for _ in "ab"]
    first, second = (f for f in finished if isinstance(f, ev.TrainingFinished))
    assert first.flags is second.flags
    assert first.total_seconds is second.total_seconds


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
        before = repr(event)
        assert repr(share(event)) == before
    assert sharing.NOTHING == []


def test_an_experiment_that_comes_as_a_whole_shares_too() -> None:
    def experiment(n: int) -> Experiment:
        judged = ev.Judged(n, "keep", "c" * 40, 1.25, 44.0, "better", incumbent="p" * 40)
        started = ev.TrainingStarted(n, 1, "c" * 40, seed=1337, budget_s=300.0)
        finished = ev.TrainingFinished(n, 1, "finished", value=1.25)
        e = Experiment(n, "p" * 40, "keep", "c" * 40, trainings=(Training(started, 1.0, finished),))
        e.verdict, e.value = judged, 1.25
        return share_experiment(msgspec.json.decode(msgspec.json.encode(e), type=Experiment))

    one, other = experiment(1), experiment(2)
    assert one.commit is other.commit is other.trainings[0].started.commit
    assert one.parent is other.parent
    assert other.verdict
    assert other.verdict.incumbent is one.parent
    assert one.value is other.trainings[0].value
    assert one.trainings[0].finished
    assert other.trainings[0].finished
    assert one.trainings[0].finished.summary is other.trainings[0].finished.summary
    assert msgspec.structs.replace(one, n=2, trainings=(), verdict=None) == msgspec.structs.replace(
        other, trainings=(), verdict=None
    )


def test_what_is_remembered_has_a_bound() -> None:
    for n in range(3 * sharing.POOL_MOST):
        share(ev.ExperimentStarted(n, "p"))
    assert len(sharing._pool) <= sharing.POOL_MOST + 1

"""What a human may ask of an engine: what is recorded and answered, and what is refused with a reason."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loop import events as ev
from loop.client import Refused
from loop.records import results
from loop.service.commands import detail, obey, others
from tests.loop.scripted import Bench, ScriptedAgent, keep_baseline


@pytest.fixture
async def bench(repository: Path) -> AsyncIterator[Bench]:
    """An engine that does not run by itself: its baseline is kept and logged, candidate 2 waits."""
    found = Bench(repository, ScriptedAgent(), approve=True)
    await keep_baseline(found)
    await found.engine.proposer.propose(2)
    found.store.record(ev.ApprovalRequested(2))
    yield found
    found.close()


def last(bench: Bench) -> ev.AnyEvent:
    """The newest decision."""
    return [record.event for record in bench.records if record.seq][-1]


@pytest.mark.parametrize(
    ("command", "answer", "event"),
    [
        (ev.Pause(), "paused", ev.Paused("paused by hand")),
        (ev.Approve(), "experiment 2 is in the queue", ev.Approved(2)),
        (ev.Approve(2, first=True), "experiment 2 is next", ev.Approved(2, first=True)),
        (ev.Reject("too timid"), "experiment 2 rejected", ev.Rejected(2, "too timid")),
        (ev.Reject("  ", 2), "experiment 2 rejected", ev.Rejected(2, "no reason given")),
        (ev.Steer(" wider "), "the agent reads it at its next proposal", ev.Steered("wider")),
        (ev.SetMode(False), "candidates train without approval", ev.ModeSet(False)),
        (ev.SetLimits("hours 1"), "limits set", ev.LimitsSet(ev.Limits(None, 1, None, None))),
        (ev.SetLimits(""), "no limits from now on", ev.LimitsSet(ev.Limits(max_crashes=None))),
        (ev.RunAgain(1), "experiment 1 trains once more after the training under way", ev.RerunAsked(1)),
        (ev.StopEngine(), "stopping after this training", ev.EngineStopping("stopped by hand")),
    ],
)
async def test_a_command_is_recorded_and_answered(
    bench: Bench, command: ev.AnyCommand, answer: str, event: ev.DurableEvent
) -> None:
    assert await obey(bench.engine, command) == answer
    assert last(bench) == event


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (ev.Resume(), "not paused"),
        (ev.Approve(1), "experiment 1 does not wait"),
        (ev.Edit(2, "x ="), "it does not parse"),
        (ev.Edit(2, "(" * 5000 + ")" * 5000), "it does not parse"),
        (ev.Permit(True), "no agent asks for permission"),
        (ev.StopTraining(), "no training to stop"),
        (ev.StopTraining(n=2), "no training to stop"),
        (ev.Override(2, "keep"), "experiment 2 has no val_bpb"),
        (ev.Override(1, "keep"), "experiment 1 is keep already"),
        (ev.Override(1, "discard"), "the only one kept"),
        (ev.RunAgain(2), "experiment 2 has no val_bpb to measure again"),
    ],
)
async def test_what_makes_no_sense_now_is_refused(bench: Bench, command: ev.AnyCommand, reason: str) -> None:
    records = len(bench.records)
    with pytest.raises(Refused, match=reason):
        await obey(bench.engine, command)
    assert len(bench.records) == records


async def test_a_human_edits_a_candidate_and_it_is_theirs(bench: Bench) -> None:
    assert await obey(bench.engine, ev.Edit(2, "X = 1.25\n")) == "experiment 2 now has your version"
    assert bench.engine.state.experiment(2).author == "human"
    assert (await detail(bench.engine, 2)).after == "X = 1.25\n"


async def test_a_reached_limit_is_not_resumed_before_it_is_raised(bench: Bench) -> None:
    await obey(bench.engine, ev.SetLimits("experiments 1"))
    await obey(bench.engine, ev.Pause())
    with pytest.raises(Refused, match="limit reached: 1 experiment; L sets other limits"):
        await obey(bench.engine, ev.Resume())
    await obey(bench.engine, ev.SetLimits("experiments 9"))
    assert await obey(bench.engine, ev.Resume()) == "going on"


async def test_a_verdict_is_changed_by_hand_only_once_its_row_is_written(bench: Bench) -> None:
    """The row that stands in results.tsv must be known before it can be replaced."""
    commit = bench.engine.state.experiment(2).commit
    for event in (
        ev.Approved(2),
        ev.TrainingStarted(2, 1, commit, seed=1337, budget_s=1.0),
        ev.TrainingFinished(2, 1, "finished", value=7.0),
        ev.Judged(2, "discard", commit, 7.0, 0.0, "worse"),
    ):
        bench.store.record(event)
    with pytest.raises(Refused, match="is not written yet"):
        await obey(bench.engine, ev.Override(2, "keep", "I like it"))
    bench.store.record(ev.Logged(2))
    assert await obey(bench.engine, ev.Override(2, "keep", "I like it")) == "experiment 2: keep"
    assert bench.engine.state.incumbent == 2


async def test_rows_of_other_tools_are_told_apart_from_our_own(bench: Bench, repository: Path) -> None:
    theirs = "baseline\t0.997900\t44.0\tkeep\tbaseline"
    own = bench.engine.state.experiment(1).row
    (repository / "results.tsv").write_text(
        f"commit\tval_bpb\tmemory_gb\tstatus\tdescription\n{theirs}\n{own}\n"
    )
    assert await others(bench.engine) == [theirs]


async def test_a_message_is_taken_back_once(bench: Bench) -> None:
    await obey(bench.engine, ev.Steer("wider"))
    id = bench.engine.state.steering[-1].id
    assert "taken back" in await obey(bench.engine, ev.TakeBack(id))
    assert all(message.id != id for message in bench.engine.state.steering)
    with pytest.raises(Refused, match="does not wait any more"):
        await obey(bench.engine, ev.TakeBack(id))


async def test_limits_that_are_none_are_refused_with_a_sentence(bench: Bench) -> None:
    before = bench.engine.state.limits
    with pytest.raises(Refused, match="hours 'many' must be a number above 0"):
        await obey(bench.engine, ev.SetLimits("hours many"))
    assert bench.engine.state.limits == before


async def test_what_is_read_from_git_and_disk_does_not_hold_up_the_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    archive, read = bench.engine.archive, bench.engine.archive.detail

    def slow(n: int) -> ev.ExperimentDetail:
        threads.append(threading.current_thread())
        return read(n)

    def lines(path: Path) -> list[str]:
        threads.append(threading.current_thread())
        return []

    monkeypatch.setattr(archive, "detail", slow)
    monkeypatch.setattr(results, "lines", lines)
    await detail(bench.engine, 2)
    assert await others(bench.engine) == []
    assert len(threads) == 2
    assert threading.main_thread() not in threads

"""Trainings on this machine's executor: how each of them goes, and what ends it."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loop import events as ev
from loop.judging import trust
from loop.judging.forecast import Ended, Forecast
from loop.records.training_folder import Decision, Exit, Spec
from loop.training import trainings
from loop.training.executor import Job
from loop.training.local import LocalExecutor
from loop.training.trainings import ATTEMPTS, Comparison, Result, Trainings
from tests.loop.training.contract import LONG_S, Bench, interrupted, processes, steps, trains, until
from tests.loop.training.jobs import make_job

TERMS = Comparison("val_bpb")
HANGS = "import os, time\ntime.sleep(float(os.environ['AUTORESEARCH_BUDGET_S']))\n"
NANS = f"for i in range(5): print(f'step {{i}} (10%) | loss: nan', flush=True)\n{HANGS}"


@pytest.fixture
async def bench(repository: Path) -> AsyncIterator[Bench]:
    bench = Bench(repository, LocalExecutor)
    yield bench
    await bench.close()


class Room:
    """The trainings of one engine, and what was shown of them."""

    def __init__(self, bench: Bench, *, seats: int = 1, stop_early: bool = True, **flags: object) -> None:
        self.shown: list[ev.LiveEvent] = []
        self.executor = bench.executor(seats=seats, **flags)
        self.trainings = Trainings(self.executor, self.shown.append, stop_early=stop_early)

    def begin(self, job: Job, attempt: int = 1, terms: Comparison = TERMS) -> asyncio.Task[Result]:
        return asyncio.create_task(self.trainings.train(job, attempt, time.time(), terms))

    async def finish(self, job: Job, attempt: int = 1, terms: Comparison = TERMS) -> ev.TrainingFinished:
        result = await self.begin(job, attempt, terms)
        assert isinstance(result.event, ev.TrainingFinished)
        return result.event


async def kill_supervisor(job: Job) -> None:
    """Kill the supervisor of this attempt once its trainer prints."""
    await until(lambda: processes(job) and steps(job))
    os.kill(processes(job)[0].ppid(), signal.SIGKILL)


async def test_a_training_is_shown_and_finishes_with_its_number(bench: Bench) -> None:
    room = Room(bench)
    finished = await room.finish(bench.job())
    assert (finished.n, finished.training, finished.outcome, finished.value) == (1, 1, "finished", 6.0)
    assert finished.memory_gb == 0.5
    assert ev.PhaseChanged(1, 1, "training") in room.shown
    assert [e.step for e in room.shown if isinstance(e, ev.Progress)][-1] == 3
    assert "val_bpb: 6.000000" in [e for e in room.shown if isinstance(e, ev.LogLines)][-1].text


async def test_the_metric_is_the_one_that_was_asked_for(bench: Bench) -> None:
    assert (await Room(bench).finish(bench.job(), terms=Comparison("training_seconds"))).value == 0.2
    missing = await Room(bench).finish(bench.job(2), terms=Comparison("accuracy"))
    assert (missing.outcome, missing.reason) == ("crashed", "it printed no finite accuracy")


async def test_a_changed_file_is_a_flag(bench: Bench) -> None:
    finished = await Room(bench).finish(bench.job(code="open('notes.txt', 'w').write('yours')\n"))
    assert finished.flags == ["it changed notes.txt"]


async def test_a_training_is_stopped_by_its_experiments_number(bench: Bench) -> None:
    room, job = Room(bench), bench.job(budget_s=LONG_S)
    training = room.begin(job)
    await until(lambda: steps(job))
    assert not room.trainings.stop(2, "not this one")
    assert room.trainings.stop(1, "enough")
    assert not room.trainings.stop(1, "it is being stopped already")
    event = (await training).event
    assert isinstance(event, ev.TrainingFinished)
    assert (event.outcome, event.reason, event.value) == ("stopped", "enough", None)
    assert processes(job) == []
    assert not room.trainings.stop(1, "there is none any more")


async def test_a_training_that_is_just_starting_is_stopped_too(bench: Bench) -> None:
    room, job = Room(bench), bench.job(budget_s=LONG_S)
    training = room.begin(job)
    await asyncio.sleep(0)
    assert room.trainings.stop(1, "enough")
    event = (await training).event
    assert isinstance(event, ev.TrainingFinished)
    assert event.outcome == "stopped"
    assert processes(job) == []


async def test_one_of_two_trainings_is_stopped(bench: Bench) -> None:
    room = Room(bench, seats=2)
    jobs = [bench.job(1, budget_s=LONG_S), bench.job(2, budget_s=1, seat=1)]
    first, second = (room.begin(job) for job in jobs)
    await until(lambda: all(steps(job) for job in jobs))
    room.trainings.stop(1, "enough")
    events = [(await training).event for training in (first, second)]
    assert [e.outcome for e in events if isinstance(e, ev.TrainingFinished)] == ["stopped", "finished"]


async def test_a_training_without_a_finite_loss_is_stopped_early(bench: Bench) -> None:
    room, job = Room(bench), bench.job(code=NANS, budget_s=LONG_S)
    finished = await room.finish(job)
    why = "stopped early: its loss is not finite"
    assert (finished.outcome, finished.reason) == ("doomed", why)
    assert ev.Notice("info", why) in room.shown
    assert processes(job) == []


async def test_a_training_far_behind_the_incumbent_is_stopped_early(bench: Bench) -> None:
    slow = f"for i in range(70): print(f'step {{i}} ({{i}}%) | loss: 3.0', flush=True)\n{HANGS}"
    curve = [ev.CurvePoint(i / 100, 3 - i / 50) for i in range(101)]
    finished = await Room(bench).finish(
        bench.job(code=slow, budget_s=LONG_S), terms=Comparison("val_bpb", False, curve)
    )
    assert finished.outcome == "doomed"
    assert finished.reason.startswith("stopped early: far behind")


async def test_a_training_that_cannot_win_by_its_curve_is_stopped_early(bench: Bench) -> None:
    def fall(end: float) -> list[ev.CurvePoint]:
        return [ev.CurvePoint(i / 200, end + 2 * ((i / 200) ** -0.5 - 1)) for i in range(2, 201)]

    known = [Ended(fall(3 + i / 50), 1 + i / 150) for i in range(20)]
    forecast = Forecast(Ended(fall(3.0), 1.0), known)
    lines = [f"step 1 ({100 * p.fraction}%) | loss: {p.loss}" for p in fall(5.0)[:100]]
    losing = "; ".join(f"print({line!r}, flush=True)" for line in lines)
    job = bench.job(code=f"{losing}\n{HANGS}", budget_s=LONG_S)
    terms = Comparison("val_bpb", False, fall(3.0), forecast)
    finished = await Room(bench).finish(job, terms=terms)
    assert finished.outcome == "doomed"
    assert "its chance to become better than the incumbent is 0.00%" in finished.reason


async def test_early_stopping_can_be_switched_off(bench: Bench) -> None:
    assert (await Room(bench, stop_early=False).finish(bench.job(code=NANS))).outcome == "finished"


async def test_a_killed_supervisor_is_a_lost_attempt_and_the_last_one_a_crash(bench: Bench) -> None:
    room, results = Room(bench), list[Result]()
    for attempt in range(1, ATTEMPTS + 1):
        job = bench.job(budget_s=LONG_S, attempt=attempt)
        training = room.begin(job, attempt)
        await kill_supervisor(job)
        results.append(await training)
    reason = "its supervisor was killed"
    assert [result.event for result in results[:-1]] == [
        ev.TrainingLost(1, 1, attempt, reason, platform.node()) for attempt in range(1, ATTEMPTS)
    ]
    last = results[-1].event
    assert isinstance(last, ev.TrainingFinished)
    assert (last.outcome, last.reason) == ("crashed", f"{reason} 3 times")


async def test_a_lost_attempt_is_followed_by_one_that_finishes(bench: Bench) -> None:
    room, job = Room(bench), bench.job(budget_s=LONG_S)
    training = room.begin(job)
    await kill_supervisor(job)
    assert isinstance((await training).event, ev.TrainingLost)
    assert (await room.finish(bench.job(attempt=2), attempt=2)).value == 6.0


async def test_cancelling_ends_the_process_tree(bench: Bench) -> None:
    room, job = (
        Room(bench),
        bench.job(code="import subprocess\nsubprocess.Popen(['sleep', '600'])\n", budget_s=LONG_S),
    )
    training = room.begin(job)
    await until(lambda: steps(job))
    assert len(processes(job)) == 2
    training.cancel()
    with pytest.raises(asyncio.CancelledError):
        await training
    assert processes(job) == []
    assert not room.trainings.stop(1, "there is none any more")


@pytest.mark.parametrize("after_s", [0, 0.005, 0.05])
async def test_cancelling_ends_a_training_that_is_being_taken_over(bench: Bench, after_s: float) -> None:
    first, job = bench.executor(), bench.job(budget_s=LONG_S)
    await interrupted(await trains(first, job))
    bench.dies(first)
    training = Room(bench).begin(job)
    await asyncio.wait({training}, timeout=after_s)
    training.cancel()
    with pytest.raises(asyncio.CancelledError):
        await training
    assert processes(job) == []


async def test_a_training_that_outlived_its_engine_is_taken_over_with_its_whole_log(bench: Bench) -> None:
    first, job = bench.executor(), bench.job(budget_s=1)
    await interrupted(await trains(first, job))
    bench.dies(first)
    room = Room(bench)
    assert (await room.finish(job)).value == 6.0
    assert ev.PhaseChanged(1, 1, "training") in room.shown
    assert len(job.folder.metrics.read_text().splitlines()) == 4


async def test_data_that_a_training_changed_is_named_with_its_result(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data/tokens.bin"
    data.parent.mkdir()
    data.write_text("precious")
    room = Room(bench, sandbox="off", data=[str(data.parent)])
    result = await room.begin(bench.job(code=f"open({str(data)!r}, 'w')\n"))
    assert result.changed_data == str(data)
    assert isinstance(result.event, ev.TrainingFinished)
    assert result.event.flags == [f"it changed {data}"]


# --- what survives the engine ---


async def test_a_training_that_was_stopped_is_not_trained_again_when_the_engine_dies_just_then(
    bench: Bench,
) -> None:
    job = bench.job(budget_s=LONG_S)
    room = Room(bench)
    training = room.begin(job)
    await until(lambda: steps(job))
    room.trainings.stop(1, "enough")
    await until(lambda: job.folder.read_exit("x") is None and job.folder.exit.exists())
    training.cancel()  # as a kill would end it, before the end is recorded
    await asyncio.gather(training, return_exceptions=True)
    finished = await Room(bench).finish(job)
    assert (finished.outcome, finished.reason) == ("stopped", "enough")
    assert processes(job) == []


async def test_a_decision_ends_a_training_that_still_runs_and_binds_no_other_attempt(bench: Bench) -> None:
    job = bench.job(budget_s=LONG_S)
    training = Room(bench).begin(job)
    await until(lambda: steps(job))
    job.folder.decide(Decision(job.key, "doomed", "hopeless"))
    finished = await Room(bench).finish(job)
    assert (finished.outcome, finished.reason) == ("doomed", "hopeless")
    assert processes(job) == []
    training.cancel()
    await asyncio.gather(training, return_exceptions=True)
    assert job.folder.read_decision("another") is None


async def test_a_machine_that_stood_still_gives_one_second_try(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "OVER_S", 0.5)
    job = bench.job(budget_s=1.0)
    training = Room(bench).begin(job)
    await until(lambda: steps(job))
    supervisor = processes(job)[0].ppid()
    os.kill(supervisor, signal.SIGSTOP)
    await asyncio.sleep(1.6)
    os.kill(supervisor, signal.SIGCONT)
    event = (await training).event
    assert isinstance(event, ev.TrainingLost)
    assert event.reason.startswith("the machine stood still for ")
    again = (await Room(bench).begin(job, attempt=2)).event
    assert isinstance(again, ev.TrainingFinished)


@pytest.mark.parametrize(
    ("stalled_s", "clock", "words"),
    [(2.9, "", ""), (3.1, "", "the machine stood still for 3.1 s"), (60.0, "cpu", "")],
)
def test_a_standstill_counts_where_it_costs_more_time_than_is_forgiven(
    tmp_path: Path, stalled_s: float, clock: str, words: str
) -> None:
    job = make_job(tmp_path, budget_s=60.0)
    job.folder.write_spec(Spec([], "", {}, "", "", "", 60.0, commit="c", clock=clock))
    ended = Exit("finished", "", 0, 0.0, 60.0, stalled_seconds=stalled_s)
    assert trainings._stalled(job, ended) == words

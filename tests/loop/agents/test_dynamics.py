"""How a past training is told: losses beside the parent's, speed, memory, time."""

from __future__ import annotations

from loop import events as ev
from loop.agents import dynamics
from loop.experiment import Experiment, Training
from tests.loop.agents.world import Past, baseline, context


def curve(late: float, speed: float, **extra: str) -> list[ev.Progress]:
    return [
        ev.Progress(
            step=10 * i, fraction=i / 40, loss=5 - i / 20 + late, dt_ms=1000 / speed,
            tokens_per_s=speed * 1e3, extra=extra,
        )
        for i in range(1, 41)
    ]  # fmt: skip


def trained(n: int, parent: str, tokens_m: float = 6.0) -> Experiment:
    started = ev.TrainingStarted(n, 1, f"c{n}", seed=1, budget_s=300.0)
    end = ev.TrainingFinished(
        n, 1, "finished", value=1.0, memory_gb=2.0, training_seconds=300.0, total_seconds=330.5,
        judge_seconds=12.0, summary={"total_tokens_M": tokens_m},
    )  # fmt: skip
    training = Training(started, 0.0)
    training.ended(end, 330.5)
    return Experiment(n, parent, "discard", f"c{n}", "words", trainings=(training,))


def test_a_training_is_told_beside_the_version_that_it_changed() -> None:
    past = Past(curves={1: curve(0.0, 10.0), 2: curve(0.25, 8.0, gnorm="0.5", unorm="0.1")})
    e = trained(2, "c1")
    told = dynamics.report(context(experiments=[baseline(), e], archive=past), e).splitlines()
    assert told[0] == (
        "330.5 s in all: 300.0 s of training, 12.0 s for the judge, 18.5 s for start, compiler and saving; "
        "peak 2.0 GB"
    )
    assert told[1] == "8,000 tok/s (#1: 10,000), 125 ms a step (#1: 100), 400 steps (#1: 400)"
    assert told[2] == "share-of-budget loss loss-of-#1 difference gnorm unorm"
    assert told[3] == "10% 5.0500 4.8000 +0.2500 0.5 0.1"
    assert told[12] == "100% 3.2500 3.0000 +0.2500 0.5 0.1"
    assert len(told) == 13


def test_a_training_that_ended_early_is_told_as_far_as_it_got() -> None:
    past = Past(curves={1: curve(0.0, 10.0)[:20]})
    told = dynamics.report(context(archive=past), baseline()).splitlines()
    assert told[0] == "10,000 tok/s, 100 ms a step, 200 steps"
    assert [line.split()[0] for line in told[2:]] == ["10%", "20%", "30%", "40%", "50%"]


def test_without_progress_there_is_nothing_to_tell() -> None:
    assert dynamics.report(context(), baseline()) == ""


def test_the_speed_comes_from_the_summary() -> None:
    assert dynamics.tokens_per_s(trained(2, "c1")) == 20_000
    assert dynamics.tokens_per_s(baseline()) is None
    assert [dynamics.short(x) for x in (1.69e6, 20_000.0, 512.0, 2.5e9)] == ["1.69M", "20K", "512", "2.5G"]

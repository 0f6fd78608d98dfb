"""`autoresearch-tui noise`: how much the number moves on this machine when nothing changes.

The incumbent is trained several times with the same seed and several times with others, as the engine would
train it. The deviation tells how many trainings it takes to keep a gain of a given size under the rules of
this repository.
"""

from __future__ import annotations

import math
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from msgspec import Struct

from loop import budget, config
from loop import events as ev
from loop.agenda import FIRST_SEED
from loop.cli import trust
from loop.errors import UsageError
from loop.judging.comparison import History, compare, first_level
from loop.judging.decision import decide
from loop.judging.gains import PRIOR
from loop.judging.level import Training
from loop.judging.noise import Noise, pooled
from loop.judging.rules import Rules
from loop.paths import RunPaths, newest, tags
from loop.records import journal
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.service import attach
from loop.service.executors import make_executor
from loop.state import RunState, fold
from loop.training import gpu
from loop.training.executor import Executor, Job, PrepareFailed
from loop.training.trainings import Comparison, Trainings

DRAWS = 2000
"""Simulated candidates per printed line."""
MULTIPLES = (1, 2, 3, 5)
"""Gains for which a line is printed, in standard deviations of one training."""
DEGREES = 20
"""Degrees of freedom of the noise estimate that are assumed: a run reaches them after some time, and asks for
more evidence before."""


class Measured(Struct, frozen=True):
    """Values of trainings with the same seed and with different seeds; mean wall seconds of a training."""

    same: list[float]
    others: list[float]
    seconds: float


async def measure(
    settings: config.Settings,
    repository: Repository,
    commit: str,
    count: int,
    say: Callable[[str], None],
) -> Measured:
    """Train `commit` `count` times with the seed of all first trainings and `count` times with new seeds.

    Raises `UsageError` when a training fails: then there is nothing to measure.
    """
    paths = RunPaths(repository.root, ".noise")
    paths.create()
    shutil.rmtree(paths.folder / "experiments", ignore_errors=True)  # what an earlier measurement left
    executor = make_executor(settings, paths, repository)
    try:
        await executor.prepare(commit, lambda event: None)
        return await _measure(executor, paths, settings, commit, count, say)
    except PrepareFailed as error:
        raise UsageError(str(error)) from error
    finally:
        await executor.close()


async def _measure(
    executor: Executor,
    paths: RunPaths,
    settings: config.Settings,
    commit: str,
    count: int,
    say: Callable[[str], None],
) -> Measured:
    same, others, seconds = list[float](), list[float](), list[float]()
    trainings = Trainings(executor, lambda event: None, stop_early=False)
    for number in range(1, 2 * count + 1):
        values, seed = (same, FIRST_SEED) if number <= count else (others, FIRST_SEED + number)
        found = await _train(trainings, paths, settings, commit, number, seed)
        if found.outcome != "finished" or found.value is None:
            raise UsageError(f"training {number} {found.outcome}: {found.reason or 'it gave no number'}")
        values.append(found.value)
        seconds.append(found.total_seconds)
        flags = f" ({'; '.join(found.flags)})" if found.flags else ""
        say(f"training {number} of {2 * count}, seed {seed}: {settings.metric} {found.value:.6f}{flags}")
    return Measured(same, others, fmean(seconds))


async def _train(
    trainings: Trainings, paths: RunPaths, settings: config.Settings, commit: str, number: int, seed: int
) -> ev.TrainingFinished:
    """Train once to the end; a training that is lost with its supervisor is started again."""
    attempt = 1
    while True:
        job = Job(
            key=f"{paths.identity}-1-{number}-{attempt}",
            n=1,
            training=number,
            commit=commit,
            seed=seed,
            budget_s=settings.budget_s,
            seat=0,
            folder=TrainingFolder(paths.training(1, number)),
            editable=settings.path,
        )
        event = (await trainings.train(job, attempt, time.time(), Comparison(settings.metric))).event
        job.folder.remove_model()  # only its number is wanted
        if isinstance(event, ev.TrainingFinished):
            return event
        attempt += 1


def words(measured: Measured, metric: str, rules: Rules) -> str:
    """What was measured, and what it means."""
    same, others = pooled([measured.same]), pooled([measured.others])
    lines = [
        f"same seed:   {metric} {fmean(measured.same):.6f}, deviation {same.deviation:.6f} "
        f"({len(measured.same)} trainings)",
        f"other seeds: {metric} {fmean(measured.others):.6f}, deviation {others.deviation:.6f} "
        f"({len(measured.others)} trainings)",
        f"one training takes {_clock(measured.seconds)}",
    ]
    if others.none:
        return "\n".join([*lines, "Trainings repeat exactly, whatever the seed: any gain is kept after one."])
    if rules.rule == "improved":
        return "\n".join([*lines, "Rule `improved` keeps any lower number, luck included."])
    lines += ["", f"{'gain':>10}   {'kept':>5}   {'trainings':>9}   time to the verdict, rule `confirmed`"]
    for multiple in MULTIPLES:
        kept, trained = outlook(multiple, rules)
        gain = multiple * others.deviation
        lines.append(f"{gain:10.6f}   {kept:5.0%}   {trained:9.1f}   {_clock(trained * measured.seconds)}")
    return "\n".join(lines)


def outlook(multiple: float, rules: Rules) -> tuple[float, float]:
    """Chance that a gain of so many deviations is kept, and mean number of trainings to the verdict."""
    chance = random.Random(1)
    found = [_simulated(multiple, chance, rules) for _ in range(DRAWS)]
    return sum(kept for kept, _ in found) / DRAWS, sum(trained for _, trained in found) / DRAWS


def _simulated(multiple: float, chance: random.Random, rules: Rules) -> tuple[bool, int]:
    """One candidate with a true gain of so many deviations: whether it is kept, and after how many trainings.

    It comes right after the baseline, whose own trainings are not counted.
    """
    noise, baseline = Noise(1.0, DEGREES), max(1, rules.baseline_runs)
    theirs = [Training(at, chance.gauss(0, 1)) for at in range(baseline)]
    ours = [Training(baseline, chance.gauss(multiple, 1))]
    while True:
        tried = theirs[-1].at
        found = compare(History(noise, first_level(theirs[0]), 1, tuple(theirs[1:]), tried), ours)
        weighed = decide(found, 1.0, math.inf, 0, PRIOR, rules)
        trained = len(ours) + len(theirs) - baseline
        if weighed.action == "rerun":
            ours.append(Training(baseline + trained, chance.gauss(multiple, 1)))
        elif weighed.action == "rerun incumbent":
            theirs.append(Training(baseline + trained, chance.gauss(0, 1)))
        else:
            return weighed.action == "keep", trained


def measured(repository: Repository, tag: str | None) -> RunState | None:
    """The run whose incumbent is measured; None without one: then it is the code that is checked out.

    Raises `UsageError` when an engine trains here: it would share the machine with what is measured.
    """
    name = newest(repository.root, tag)
    if busy := [t for t in tags(repository.root) if attach.engine_runs(RunPaths(repository.root, t))]:
        raise UsageError(f"run {busy[-1]} is training here and would disturb the measurement: stop it first")
    return fold(journal.read(RunPaths(repository.root, name).journal)) if name is not None else None


async def main(tag: str | None, runs: int, flags: dict[str, object], trusted: bool) -> None:
    """Measure and print."""
    if runs < 2:
        raise UsageError("--runs must be at least 2: one training has no deviation")
    repository = Repository.discover(Path.cwd())
    try:
        run = measured(repository, tag)
        commit = run.incumbent_commit if run else repository.head()
        what = f"the incumbent of run {run.tag}" if run else "the code that is checked out"
        settings = trust.settings(repository, commit, flags, trust=trusted, ask=True)
        settings, _ = budget.settled(settings, run or RunState(), has_gpu=gpu.has_driver())
        print(f"{what} ({commit[:7]}), {settings.budget_s:g} s a training, {2 * runs} trainings", flush=True)
        found = await measure(settings, repository, commit, runs, lambda line: print(line, flush=True))
        print(words(found, settings.metric, settings.rules))
    finally:
        repository.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{seconds:.1f} s"

"""`autoresearch-tui noise`: how much the number moves on this machine when nothing changes.

The incumbent runs several times with the same seed and several times with others, as the engine would run it.
From the deviation follows what a gain of a given size costs to be kept under the rules of this repository.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from msgspec import Struct

from loop import config
from loop import events as ev
from loop.agenda import FIRST_SEED
from loop.errors import UsageError
from loop.judging.noise import Noise, pooled
from loop.judging.verdict import Rules, confirmed
from loop.paths import RunPaths, newest, tags
from loop.records import journal
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.service import attach
from loop.state import fold
from loop.training.executor import Job, PrepareFailed
from loop.training.local import LocalExecutor
from loop.training.trainings import Comparison, Trainings

DRAWS = 2000
"""Simulated candidates behind each line of the outlook."""
MULTIPLES = (1, 2, 3, 5)
"""Gains that the outlook looks at, in deviations of one run."""
DEGREES = 20
"""Replicates that a run of research has gathered after some time; before that it needs more evidence."""


class Measured(Struct, frozen=True):
    """Values of the same seed, values of different seeds, and the wall seconds of a run."""

    same: list[float]
    others: list[float]
    seconds: float


async def measure(
    settings: config.Settings,
    repository: Repository,
    commit: str,
    runs: int,
    say: Callable[[str], None],
) -> Measured:
    """Run `commit` `runs` times with the seed of all first runs and `runs` times with new seeds.

    Raises `UsageError` when a run fails: then there is nothing to measure.
    """
    paths = RunPaths(repository.root, ".noise")
    paths.create()
    shutil.rmtree(paths.folder / "experiments", ignore_errors=True)  # what an earlier measurement left
    executor = LocalExecutor(settings, paths, repository)
    try:
        await executor.prepare(commit, lambda event: None)
        return await _measure(executor, paths, settings, commit, runs, say)
    except PrepareFailed as error:
        raise UsageError(str(error)) from error
    finally:
        await executor.close()


async def _measure(
    executor: LocalExecutor,
    paths: RunPaths,
    settings: config.Settings,
    commit: str,
    runs: int,
    say: Callable[[str], None],
) -> Measured:
    same, others, seconds = list[float](), list[float](), list[float]()
    trainings = Trainings(executor, lambda event: None, stop_early=False)
    for number in range(1, 2 * runs + 1):
        values, seed = (same, FIRST_SEED) if number <= runs else (others, FIRST_SEED + number)
        found = await _train(trainings, paths, settings, commit, number, seed)
        if found.outcome != "finished" or found.value is None:
            raise UsageError(f"training {number} {found.outcome}: {found.reason or 'it gave no number'}")
        values.append(found.value)
        seconds.append(found.total_seconds)
        flags = f" ({'; '.join(found.flags)})" if found.flags else ""
        say(f"training {number} of {2 * runs}, seed {seed}: {settings.metric} {found.value:.6f}{flags}")
    return Measured(same, others, fmean(seconds))


async def _train(
    trainings: Trainings, paths: RunPaths, settings: config.Settings, commit: str, number: int, seed: int
) -> ev.TrainingFinished:
    """One training to its end, started again where it is lost without its own doing."""
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
        f"({len(measured.same)} runs)",
        f"other seeds: {metric} {fmean(measured.others):.6f}, deviation {others.deviation:.6f} "
        f"({len(measured.others)} runs)",
        f"one run takes {_clock(measured.seconds)}",
    ]
    if others.none:
        return "\n".join([*lines, "Runs repeat exactly, whatever the seed: any gain is kept after one run."])
    if rules.rule == "improved":
        return "\n".join([*lines, "Rule `improved` keeps any lower number, luck included."])
    lines += ["", f"{'gain':>10}   {'kept':>5}   {'runs':>4}   time to the verdict, rule `confirmed`"]
    for multiple in MULTIPLES:
        kept, trained = outlook(multiple, rules)
        gain = multiple * others.deviation
        lines.append(f"{gain:10.6f}   {kept:5.0%}   {trained:4.1f}   {_clock(trained * measured.seconds)}")
    return "\n".join(lines)


def outlook(multiple: float, rules: Rules) -> tuple[float, float]:
    """Chance that a gain of so many deviations is kept, and how many runs the verdict takes on average."""
    chance, noise = random.Random(1), Noise(1.0, DEGREES)
    kept = trained = 0
    for _ in range(DRAWS):
        theirs = [chance.gauss(0, 1) for _ in range(max(1, rules.baseline_runs))]
        ours = [chance.gauss(multiple, 1)]
        trained += 1
        while True:
            weighed = confirmed(fmean(ours) - fmean(theirs), len(ours), len(theirs), noise, 0, rules)
            if weighed.action != "rerun":
                break
            trained += 1
            if len(theirs) < len(ours):
                theirs.append(chance.gauss(0, 1))
            else:
                ours.append(chance.gauss(multiple, 1))
        kept += weighed.action == "keep"
    return kept / DRAWS, trained / DRAWS


def incumbent(repository: Repository, tag: str | None) -> tuple[str, str]:
    """The commit to measure and what it is: the incumbent of a run, or what is checked out.

    Raises `UsageError` when an engine trains here: it would share the machine with what is measured.
    """
    name = newest(repository.root, tag)
    if busy := [t for t in tags(repository.root) if attach.engine_runs(RunPaths(repository.root, t))]:
        raise UsageError(f"run {busy[-1]} is training here and would disturb the measurement: stop it first")
    if name is None:
        return repository.head(), "the code that is checked out"
    state = fold(journal.read(RunPaths(repository.root, name).journal))
    return state.incumbent_commit, f"the incumbent of run {name}"


async def main(tag: str | None, runs: int, flags: dict[str, object]) -> None:
    """Measure and print."""
    if runs < 2:
        raise UsageError("--runs must be at least 2: one run has no deviation")
    repository = Repository.discover(Path.cwd())
    try:
        commit, what = incumbent(repository, tag)
        settings = config.load(repository, commit, flags, os.environ)
        print(f"{what} ({commit[:7]}), {settings.budget_s:g} s a run, {2 * runs} runs", flush=True)
        found = await measure(settings, repository, commit, runs, lambda line: print(line, flush=True))
        print(words(found, settings.metric, settings.rules))
    finally:
        repository.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{seconds:.1f} s"

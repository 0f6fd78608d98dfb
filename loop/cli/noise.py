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
from loop.errors import UsageError
from loop.judging.noise import Noise, pooled
from loop.judging.verdict import Rules, confirmed
from loop.paths import RunPaths, newest, tags
from loop.records import journal
from loop.records.repository import Repository
from loop.service import attach
from loop.state import Training, fold
from loop.training.local import SEED, Executor, Job
from loop.training.prepare import PrepareFailed

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
    executor = Executor(settings, paths, repository, lambda event: None, lambda: None)
    try:
        await executor.prepare(commit)
        return await _measure(executor, settings, commit, runs, say)
    except PrepareFailed as error:
        raise UsageError(str(error)) from error
    finally:
        executor.close()


async def _measure(
    executor: Executor, settings: config.Settings, commit: str, runs: int, say: Callable[[str], None]
) -> Measured:
    same, others, seconds = list[float](), list[float](), list[float]()
    for number in range(2 * runs):
        values, seed = (same, SEED) if number < runs else (others, SEED + 1 + number)
        run = Training(number + 1, seed, commit, settings.budget_s, started_at=time.time())
        found: ev.TrainingFinished = await executor.train(Job(1, run, settings.metric, settings.path))
        if found.outcome != "finished" or found.value is None:
            raise UsageError(f"run {number + 1} {found.outcome}: {found.reason or 'it gave no number'}")
        values.append(found.value)
        seconds.append(found.total_seconds)
        flags = f" ({'; '.join(found.flags)})" if found.flags else ""
        say(f"run {number + 1} of {2 * runs}, seed {seed}: {settings.metric} {found.value:.6f}{flags}")
    executor.close()
    return Measured(same, others, fmean(seconds))


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

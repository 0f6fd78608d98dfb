"""Compares rules `improved` and `confirmed` with the real trainer: same start, same agent, as many trainings.

    AUTORESEARCH_CLOCK=cpu OMP_NUM_THREADS=1 \\
        python -m benchmarks.rules_for_real FOLDER [--trainings 60] [--budget 10] [--seeds 5]

Under each rule an engine of its own, in a fresh repository of its own below FOLDER, does research with agent
`search`, whose ideas depend on the run's tag and results alone. Both engines run beside each other. What was
the incumbent after so many trainings then trains anew with fresh seeds, beside the unchanged code: a rule's
own number is too good, because it was picked for being good. FOLDER can be given again to go on.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from loop import events as ev
from loop.paths import RunPaths
from loop.records import journal
from loop.state import RunState

ROOT = Path(__file__).parents[1]
RULES = ("improved", "confirmed")
FRESH = 1
"""First seed of the evaluation: engines count theirs from 1337 (`agenda.FIRST_SEED`)."""
POLL_S = 5.0


def environment() -> dict[str, str]:
    """This process's environment, in which Python finds the checkout that this file belongs to."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start(folder: Path, rule: str, tag: str, trainings: int, budget_s: float) -> subprocess.Popen[bytes]:
    """Make the repository where it is missing, and start its engine."""
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "loop.cli", "init", str(folder)], env=environment(), check=True)
    command = [
        "nice", sys.executable, "-m", "loop.cli", "run", "--headless", "--tag", tag, "--rule", rule,
        "--agent", "search", "--budget", f"{budget_s:g}", "--timeout", f"{60 + 20 * budget_s:g}",
        "--max-experiments", f"{trainings + 10}",
    ]  # fmt: skip
    with (folder.parent / f"{rule}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)


def after(folder: Path, tag: str, trainings: int) -> RunState | None:
    """The state of a run once its first `trainings` trainings are judged; None before that."""
    state, ended = RunState(), 0
    for record in journal.read(RunPaths(folder, tag).journal):
        if ended >= trainings and isinstance(record.event, ev.TrainingStarted):
            return state
        ended += isinstance(record.event, ev.TrainingFinished)
        state.apply(record)
    return None


def research(folder: Path, tag: str, trainings: int, budget_s: float) -> dict[str, RunState]:
    """Run both engines until each has trained so often."""
    engines = {
        rule: start(folder / rule, rule, tag, trainings, budget_s)
        for rule in RULES
        if not (folder / rule).exists() or after(folder / rule, tag, trainings) is None
    }
    try:
        while waiting := {
            rule: e for rule, e in engines.items() if after(folder / rule, tag, trainings) is None
        }:
            for rule, engine in waiting.items():
                if engine.poll() is not None:
                    raise SystemExit(f"the engine of rule {rule} ended: see {folder / f'{rule}.log'}")
            for rule in engines.keys() - waiting.keys():
                engines[rule].terminate()
            time.sleep(POLL_S)
    finally:
        for engine in engines.values():
            engine.terminate()
        for engine in engines.values():
            engine.wait()
    return {rule: state for rule in RULES if (state := after(folder / rule, tag, trainings))}


def export(repository: Path, commit: str, to: Path) -> None:
    """Write the tree of a commit into a new folder."""
    tar = subprocess.run(["git", "archive", commit], cwd=repository, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        archive.extractall(to, filter="data")


def train(folder: Path, seed: int, budget_s: float) -> float:
    """Train the code in a folder once and return its val_bpb, unless it has been trained before."""
    log = folder.parent / f"{folder.name}-{seed}.log"
    if not log.exists() or "val_bpb" not in log.read_text():
        variables = {"AUTORESEARCH_BUDGET_S": f"{budget_s:g}", "AUTORESEARCH_SEED": str(seed)}
        with log.open("wb") as out:
            subprocess.run(
                ["nice", sys.executable, "nanogpt/train.py"], cwd=folder, env={**os.environ, **variables},
                stdout=out, stderr=subprocess.STDOUT, check=True,
            )  # fmt: skip
    found = re.findall(r"^val_bpb: +(\S+)$", log.read_text(), re.MULTILINE)
    return float(found[-1])


def mean(values: Sequence[float]) -> str:
    """The mean with its standard error."""
    return f"{fmean(values):.4f} ± {stdev(values) / math.sqrt(len(values)):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tag", default="real", help="of both runs; another one is another course of ideas")
    parser.add_argument("--trainings", type=int, default=60, help="of each rule")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of each training")
    parser.add_argument("--seeds", type=int, default=5, help="with which each final incumbent trains")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    states = research(given.folder.absolute(), given.tag, given.trainings, given.budget)
    commits = {"unchanged code": states[RULES[0]].base}
    commits |= {rule: states[rule].incumbent_commit for rule in RULES}
    folders = {name: given.folder.absolute() / f"final-{name}".replace(" ", "-") for name in commits}
    for name, commit in commits.items():
        if not folders[name].exists():
            export(given.folder / (name if name in states else RULES[0]), commit, folders[name])
    values: dict[str, list[float]] = {name: [] for name in commits}
    for seed in range(FRESH, FRESH + given.seeds):  # in turn, so that all share a drift of the machine
        for name, folder in folders.items():
            values[name].append(train(folder, seed, given.budget))
    print(f"| | experiments | keeps | gain by its own numbers | {given.seeds} fresh seeds | true gain |")
    print("|---|---|---|---|---|---|")
    print(f"| unchanged code | | | | {mean(values['unchanged code'])} | |")
    for rule, state in states.items():
        judged = [e for e in state.experiments if e.judged]
        keeps = sum(e.phase == "keep" for e in judged) - 1
        gains = [a - b for a, b in zip(values["unchanged code"], values[rule], strict=True)]
        own = (state.baseline or 0.0) - (state.best or 0.0)
        print(f"| {rule} | {len(judged)} | {keeps} | {own:.4f} | {mean(values[rule])} | {mean(gains)} |")


if __name__ == "__main__":
    main()

"""The acceptance on a GPU, in one command: does everything work, how good and how fast is the baseline.

    python -m benchmarks.h100 [--folder DIR] [--minutes 10] [--autoresearch CHECKOUT] [--write]

Everything goes the way of the real engine: exported commits, supervisor, fence, dry run and judge. Pieces:

- the self test;
- three trainings of the unchanged trainer for `--budget` seconds (300), each with another seed;
- with `--autoresearch` one training of that checkout of karpathy/autoresearch, by its own train.py;
- the trainer, and the trainer without each of its two largest techniques, for `--short` seconds (60).

After each piece DIR/state.json is written, and a later start goes on after the last one; on another machine
of the same kind that file is all it needs. With `--minutes` it ends before a piece that would not fit into
that time. All pieces are planned to take 24 minutes, the checkout 6 more. At the end it prints a table, and
with `--write` puts it into docs/benchmarks.md. It runs on a CPU as well, then with the CPU profile.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from loop import config
from loop import events as ev
from loop.cli import new_repository
from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.training import gpu, selftest
from loop.training.executor import Job, PrepareFailed
from loop.training.local import LocalExecutor
from loop.training.trainings import Comparison, Trainings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs/benchmarks.md"
BEGIN, END = "<!-- benchmarks/h100.py writes from here -->", "<!-- to here -->"
SEEDS = (1337, 1338, 1339)
TECHNIQUES: dict[str, dict[str, str]] = {
    "counts and copies": {"COUNT_ORDER": "0", "COPY_LENGTH": "0"},
    "copies": {"COPY_LENGTH": "0"},
    "n-gram tables": {"NGRAM_TABLES": "0"},
    "value embeddings": {"VALUE_EVERY": "0"},
    "softcap": {"SOFTCAP": "0.0"},
}
"""What can be left out, the largest gain first. The first two that the profile uses at all are measured."""
OVERHEAD_S = 90.0
"""What a training is planned to take beyond its budget; its dry run is part of that."""
MOST_S = 300.0
"""What it may take beyond its budget: a busy machine is no reason to have no figure."""


class Training(msgspec.Struct, frozen=True):
    """What one training gave, and where its time went, in seconds."""

    outcome: str
    reason: str = ""
    value: float | None = None
    start: float = 0.0
    """From the start of the process to the phase `training`: Python, torch, data, model."""
    compile: float = 0.0
    """Steps that the budget leaves out."""
    train: float = 0.0
    end: float = 0.0
    """From the last step to the end of the process: saving the model, or measuring it there."""
    judge: float = 0.0
    total: float = 0.0
    mfu: float | None = None
    steps: float = 0.0
    memory_gb: float = 0.0


class Piece(NamedTuple):
    """Something to measure."""

    name: str
    most_s: float
    """Seconds that it may take."""
    do: Callable[[], Awaitable[Training | None]]


class State(msgspec.Struct):
    """What is done. It belongs to one machine and one state of the trainer."""

    machine: str
    code: str
    checks: list[selftest.Check] = []
    trainings: dict[str, Training] = {}


class Bench:
    """A research repository of its own, with the trainer of this checkout, and what was measured in it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.file = options.folder / "state.json"
        self.facts = gpu.ask(sys.executable, os.environ)
        self.state = self._resume()
        self.root = options.folder.absolute() / f"research-{self.state.code}"
        if not self.root.exists():
            new_repository.create(self.root)
        self.repository = Repository.discover(self.root)
        self.base = self.repository.head()

    def _resume(self) -> State:
        code = hashlib.sha256(b"".join(p.read_bytes() for p in sorted((ROOT / "nanogpt").glob("*.py"))))
        fresh = State(str(self.facts), code.hexdigest()[:12])
        if not self.file.exists():
            return fresh
        found = msgspec.json.decode(self.file.read_bytes(), type=State)
        if (found.machine, found.code) != (fresh.machine, fresh.code):
            raise UsageError(
                f"{self.file} is of {found.machine} and trainer {found.code}, this is {fresh.machine} and "
                f"trainer {fresh.code}: name another --folder"
            )
        return found

    def save(self) -> None:
        draft = self.file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self.state), indent=1))
        draft.replace(self.file)

    # --- pieces ---

    def pieces(self) -> list[Piece]:
        """Each piece that is still to do."""
        budget, short = self.options.budget, self.options.short
        plan = [Piece("self test", 120.0, self.test)]
        plan += [self._training(f"baseline, seed {seed}", self.base, seed, budget) for seed in SEEDS]
        if self.options.autoresearch:
            plan.append(Piece("karpathy/autoresearch", budget + OVERHEAD_S, self._foreign))
        plan.append(self._training(f"{short:g} s", self.base, SEEDS[0], short))
        for name, changes in self._techniques():
            commit = self._without(name, changes)
            plan.append(self._training(f"{short:g} s without {name}", commit, SEEDS[0], short))
        done = {*self.state.trainings, *(["self test"] if self.state.checks else [])}
        return [piece for piece in plan if piece.name not in done]

    def settings(self, repository: Repository, **flags: Any) -> Settings:
        trusted = list(config.described())
        return config.load(repository, repository.head(), flags, os.environ, trusted)

    async def test(self) -> None:
        """The self test; nothing else is measured where the device fails it."""
        paths = RunPaths(self.root, "h100")
        paths.create()
        found = await selftest.run(
            self.settings(self.repository), paths, self.repository, self.base, self.facts,
            lambda check: print(check, flush=True),
        )  # fmt: skip
        self.state.checks = found.checks
        if broken := [check for check in found.of("fail") if check.name == selftest.DEVICE]:
            raise UsageError(broken[0].text)

    def _training(self, name: str, commit: str, seed: int, budget: float) -> Piece:
        do = partial(self.train, self.repository, commit, seed, budget)
        return Piece(name, budget + OVERHEAD_S, do)

    async def _foreign(self) -> Training:
        repository = Repository.discover(self.options.autoresearch.resolve())
        try:
            return await self.train(repository, repository.head(), SEEDS[0], self.options.budget)
        finally:
            repository.close()

    async def train(self, repository: Repository, commit: str, seed: int, budget: float) -> Training:
        """Train a commit as the engine does, and note when its phases begin."""
        paths = RunPaths(repository.root, "h100")
        paths.create()
        settings = self.settings(repository, budget_s=budget, timeout_s=budget + MOST_S)
        executor = LocalExecutor(settings, paths, repository)
        times: dict[str, float] = {}

        def show(event: ev.LiveEvent) -> None:
            if isinstance(event, ev.PhaseChanged):
                times.setdefault(event.phase, time.time())
            elif isinstance(event, ev.Notice | ev.Preparing) and event.text:
                print(f"  {event.text}", flush=True)

        number = len(self.state.trainings) + 1
        job = Job(
            f"{paths.identity}-{number}-1-1", number, 1, commit, seed, budget, 0,
            TrainingFolder(paths.training(number, 1)), settings.path,
        )  # fmt: skip
        try:
            await executor.prepare(commit, show)
            found = await Trainings(executor, show, stop_early=False).train(
                job, 1, time.time(), Comparison(settings.metric)
            )
        except PrepareFailed as error:
            return Training("not started", str(error))
        finally:
            await executor.close()
        ended = job.folder.read_exit(commit)
        job.folder.remove_model()
        if not isinstance(found.event, ev.TrainingFinished) or ended is None:
            return Training("lost")
        return _measured(found.event, ended.started, ended.trainer_seconds, times)

    # --- techniques ---

    def _techniques(self) -> list[tuple[str, dict[str, str]]]:
        """The two largest techniques that the profile of this machine uses."""
        names = sorted({name for changes in TECHNIQUES.values() for name in changes})
        code = f"import json, train; print(json.dumps({{n: getattr(train, n, 0) for n in {names}}}))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.root / "nanogpt",
            capture_output=True,
            text=True,
            check=True,
        )
        values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        used = [(n, c) for n, c in TECHNIQUES.items() if any(values[k] != float(v) for k, v in c.items())]
        return used[:2]

    def _without(self, name: str, changes: dict[str, str]) -> str:
        """A commit of train.py with other values in all of its profiles."""
        source = (self.root / "nanogpt/train.py").read_text()
        for key, value in changes.items():
            source, count = re.subn(
                rf"^( *){key} = [^#\n]+?(?=  #|$)", rf"\g<1>{key} = {value}", source, flags=re.M
            )
            if not count:
                raise UsageError(f"train.py has no {key}: TECHNIQUES in benchmarks/h100.py is out of date")
        return self.repository.commit(self.base, "nanogpt/train.py", source, f"without {name}")


def _measured(
    found: ev.TrainingFinished, started: float, seconds: float, times: dict[str, float]
) -> Training:
    """A training's figures; a phase that was not seen counts as nothing."""
    began = times.get("training", started)
    stopped = times.get("evaluating", began + found.training_seconds)
    mfu = found.summary.get("mfu_percent")
    steps = found.summary.get("num_steps")
    return Training(
        found.outcome, found.reason, found.value,
        start=began - started,
        compile=max(0.0, stopped - began - found.training_seconds),
        train=found.training_seconds,
        end=max(0.0, started + seconds - stopped),
        judge=found.judge_seconds,
        total=found.total_seconds,
        mfu=mfu if isinstance(mfu, float) else None,
        steps=steps if isinstance(steps, float) else 0.0,
        memory_gb=found.memory_gb,
    )  # fmt: skip


# --- the table ---


def table(state: State, budget: float) -> str:
    """All that was measured, as docs/benchmarks.md has it."""
    lines = [f"{state.machine}. Trainer {state.code}.", ""]
    lines += [
        f"- {check.verdict}: {check.name}: {check.text} ({check.seconds:.1f} s)" for check in state.checks
    ]
    lines += [
        "",
        "| | val_bpb | MFU | steps | memory, GB | start | compile | train | end | judge | total, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(name, training) for name, training in state.trainings.items()]
    values = [t.value for n, t in state.trainings.items() if n.startswith("baseline") and t.value is not None]
    if len(values) > 1:
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        lines += ["", f"Baseline, {budget:g} s: {mean:.4f}, deviation {deviation:.4f} ({len(values)} seeds)."]
    return "\n".join(lines)


def _row(name: str, t: Training) -> str:
    if t.value is None:
        return f"| {name} | {t.outcome}: {t.reason[:200]} | | | | | | | | | {t.total:.0f} |"
    mfu = "" if t.mfu is None else f"{t.mfu:.1f}%"
    parts = " | ".join(f"{s:.1f}" for s in (t.start, t.compile, t.train, t.end, t.judge, t.total))
    return f"| {name} | {t.value:.4f} | {mfu} | {t.steps:.0f} | {t.memory_gb:.1f} | {parts} |"


def write(text: str, docs: Path) -> None:
    """Put the table between its two marks in the docs. Raises `UsageError` when they are not there."""
    before, begin, rest = docs.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{docs} lacks the lines `{BEGIN}` and `{END}`")
    docs.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


async def measure(options: argparse.Namespace) -> bool:
    """Do piece after piece; returns whether all are done."""
    options.folder.mkdir(parents=True, exist_ok=True)
    bench, started = Bench(options), time.monotonic()
    try:
        for number, piece in enumerate(bench.pieces()):
            used = time.monotonic() - started
            if options.minutes and number and used + piece.most_s > 60 * options.minutes:
                print(f"{used:.0f} s used: start again to go on with {piece.name}")
                return False
            print(f"{piece.name} ...", flush=True)
            if found := await piece.do():
                bench.state.trainings[piece.name] = found
                print(_row(piece.name, found), flush=True)
            bench.save()
    finally:
        bench.repository.close()
    text = table(bench.state, options.budget)
    print(f"\n{text}")
    if options.write:
        write(text, options.docs)
    return True


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="The acceptance on a GPU, in one command.")
    parser.add_argument("--folder", type=Path, default=Path("h100"), help="for state and research (h100)")
    parser.add_argument("--minutes", type=float, default=0.0, help="end before so many minutes; 0: no limit")
    parser.add_argument("--autoresearch", type=Path, help="a checkout of karpathy/autoresearch")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of a baseline (300)")
    parser.add_argument("--short", type=float, default=60.0, help="seconds of an ablation (60)")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--docs", type=Path, default=DOCS, help="docs to write to (docs/benchmarks.md)")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measure; exit code 0 when all is done, 3 when there are pieces left."""
    options = parse(words)
    try:
        return 0 if asyncio.run(measure(options)) else 3
    except UsageError as error:
        print(f"h100: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""Puts odd things in the place of each file of a run, and lets every reader of a run meet them.

    python -m tests.hostile.run_folder FOLDER [SHARE OF]

prints as JSON what went wrong: with part SHARE of the OF parts of all combinations, or with all of them. It
is a program, because it takes itself the memory that a careless reader needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from loop import events as ev
from loop.cli.__main__ import main
from loop.paths import RunPaths
from loop.records.archive import KeptArchive
from loop.records.repository import Repository
from loop.service.replay import Replay
from loop.training.programs import leftovers
from tests.hostile.reading import EXPECTED, KINDS, Hangs, raise_hangs
from tests.loop.judged import make_judged
from tests.loop.scripted import Bench, ScriptedAgent

MORE = (
    "journal.000000001.jsonl.gz", "engine.json", "engine.log", "engine.lock", "flags.json", "notes.md",
    "experiments/0002/training-1/trained.json", "experiments/0002/training-1/decision.json",
    "experiments/0002/training-1/out", "experiments/0002/training-1/judge", "experiments/0002/training-1",
    "experiments/0002", "experiments", "slots", "slots/0", "slots/0.next", "slots/0-frozen", "compiled",
    "models", "report", "slots/prepare", "venv",
    "slots/0/train.py", "slots/0-frozen/train.py", "slots/0.next/train.py",
)  # fmt: skip
"""What a run can have, besides what the one of this program has, in `.autoresearch/t`."""
SECONDS = 20
"""So long may one reader take: then it hangs."""
WAITS_S = 8.0
"""After so long an engine waits for something."""
AFTERWARDS_S = 0.5
"""So long it is watched after it has said something."""


class Run:
    """A run of two experiments, whose engine was killed before it had seen the end of the second."""

    def __init__(self, folder: Path) -> None:
        self.root, self._spare = folder / "repo", folder / "spare"
        make_judged(self.root)
        asyncio.run(self._bench().run())
        journal = RunPaths(self.root, "t").journal
        lines = journal.read_bytes().splitlines(keepends=True)
        ends = [i for i, line in enumerate(lines) if b'"TrainingFinished"' in line]
        journal.write_bytes(b"".join(lines[: ends[-1]]))
        shutil.copytree(self.root, self._spare, symlinks=True)

    def _bench(self) -> Bench:
        return Bench(
            self.root, ScriptedAgent(), rule="improved", baseline_runs=1, audit="report", max_experiments=2,
            fix_attempts=0, keep_models=2,
        )  # fmt: skip

    def again(self) -> None:
        """Make everything as it was."""
        leftovers.remove(self.root)
        shutil.copytree(self._spare, self.root, symlinks=True)
        os.chdir(self.root)

    def files(self) -> list[str]:
        """The paths of the files that the run has or can have, from the repository's top folder."""
        home = self.root / ".autoresearch"
        found = [path for path in home.rglob("*") if path.is_file() and "slots" not in path.parts]
        there = {str(path.relative_to(self.root)) for path in found} | {"results.tsv", "autoresearch.toml"}
        return sorted(there | {f".autoresearch/t/{name}" for name in MORE})

    def resume(self) -> None:
        """Let an engine go on. It may wait for a disk, when it says so."""
        bench = self._bench()

        def says_something() -> bool:
            return bool(bench.events(ev.Notice) or bench.events(ev.Paused))

        async def run() -> None:
            going = asyncio.create_task(bench.run())
            end = time.monotonic() + WAITS_S
            while not going.done() and not says_something() and time.monotonic() < end:
                await asyncio.wait({going}, timeout=0.02)
            await asyncio.wait({going}, timeout=AFTERWARDS_S)
            if going.done():
                going.result()
                return
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
            if not says_something():
                raise Hangs("the engine waits and does not say why")

        asyncio.run(run())

    def read_all(self) -> None:
        """Replay it, and look at each experiment."""
        repository = Repository.discover(self.root)
        try:
            paths = RunPaths(self.root, "t")
            replay = Replay(paths, repository, speed=1e9)

            async def records() -> None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        async for _ in replay.records():
                            pass

            asyncio.run(records())
            archive = KeptArchive(repository, paths, replay.state)
            for experiment in replay.state.experiments:
                archive.detail(experiment.n)
                archive.progress(experiment.n)
            archive.ended(5)
        finally:
            repository.close()


SHAPES: dict[str, Callable[[Path], object]] = {
    **KINDS,
    "a packed line of 200 MB": lambda path: path.write_bytes(gzip.compress(bytes(200 << 20), 1)),
}
COMMANDS = (
    ["status"], ["status", "--json"], ["logs"], ["report"], ["report", "--json"], ["report", "--csv"],
    ["finish"], ["model", "export", "out"],
)  # fmt: skip
"""What people ask about a run."""


def commanded(words: list[str]) -> None:
    """Run a command. Raises ValueError where it fails with more or less than one line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    if code not in (0, 2) or (code == 2 and err.getvalue().count("\n") != 1):
        raise ValueError(f"code {code}: {err.getvalue()}")


def readers(run: Run) -> Iterator[tuple[str, Callable[[], object]]]:
    for words in COMMANDS:
        yield " ".join(words), functools.partial(commanded, words)
    yield "read all", run.read_all
    yield "resume", run.resume


def tried(run: Run, name: str, kind: str) -> list[str]:
    """What went wrong when all readers met this kind of thing in the place of a file."""
    wrong = []
    for reader, read in readers(run):
        if reader in ("status", "resume"):  # what comes between does not change the run's own files
            run.again()
            path = run.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            leftovers.remove(path)
            try:
                SHAPES[kind](path)
            except PermissionError:
                return []  # only root may make a device
        signal.alarm(SECONDS)
        try:
            read()
        except EXPECTED as error:
            wrong += [f"{name}, {kind}, {reader}: more than a line: {error}"] if "\n" in str(error) else []
        except BaseException as error:
            wrong.append(f"{name}, {kind}, {reader}: {error!r}")
        finally:
            signal.alarm(0)
    return wrong


if __name__ == "__main__":
    os.environ["XDG_RUNTIME_DIR"] = os.environ["TMPDIR"] = os.environ["HOME"] = sys.argv[1]
    share, of = (int(word) for word in sys.argv[2:] or (0, 1))
    made = Run(Path(sys.argv[1]))
    made.again()
    for _, reader in readers(made):  # loads what they need before memory is limited
        reader()
    signal.signal(signal.SIGALRM, raise_hangs)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
    made.again()
    both = [(name, kind) for name in made.files() for kind in SHAPES]
    print(json.dumps([words for pair in both[share::of] for words in tried(made, *pair)]))

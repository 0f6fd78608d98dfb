"""A recorded run in a real repository, and a tracker that remembers what it was told."""

from __future__ import annotations

from pathlib import Path

from loop import events as ev
from loop.paths import RunPaths
from loop.records.journal import Journal
from loop.records.repository import Repository
from loop.tracking.tracker import Facts, Point
from tests.conftest import make_repository

TRAIN = "LR = 0.04  # learning rate\nDEPTH = 8\nprint(LR * DEPTH)\n"


class World:
    """A run that a test writes down event by event, as an engine would."""

    def __init__(self, folder: Path) -> None:
        root = make_repository(folder, TRAIN)
        self.repository = Repository.discover(root)
        self.paths = RunPaths(self.repository.root, "nov29")
        self.paths.create()
        self.journal = Journal.open(self.paths.journal)
        self.base = self.repository.head()
        self.record(ev.RunCreated("nov29", str(root), self.base, "train.py", []))
        self.record(ev.EngineStarted(1, "test", "search"))

    def record(self, *events: ev.DurableEvent) -> None:
        for event in events:
            self.journal.append(event)

    def start(self, n: int, learning_rate: float | None = None, parent: str = "") -> str:
        """Propose experiment `n` and begin its training; returns its commit."""
        parent = parent or self.base
        commit = self.base
        if learning_rate is not None:
            text = TRAIN.replace("0.04", str(learning_rate))
            commit = self.repository.commit(parent, "train.py", text, "change")
        self.record(
            ev.ExperimentStarted(n, parent),
            ev.CandidateCommitted(n, commit, parent, f"LR to {learning_rate}", "faster", author="agent"),
            ev.TrainingStarted(n, 1, commit, 1337, 300.0),
        )
        return commit

    def progress(self, n: int, *steps: int, training: int = 1, anew: bool = False) -> None:
        """What the trainer prints of these steps."""
        folder = self.paths.training(n, training)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "metrics.jsonl", "wb" if anew else "ab") as file:
            for step in steps:
                file.write(ev.encode(ev.Progress(n, training, step, step / 100, loss=4 - step / 100)) + b"\n")

    def finish(self, n: int, commit: str, value: float, status: ev.Status = "keep") -> None:
        """End the training, and judge the experiment."""
        summary: dict[str, float | str] = {
            "val_bpb": value, "training_seconds": 300.0, "total_seconds": 310.0, "peak_vram_mb": 1536.0,
            "num_steps": 100.0,
        }  # fmt: skip
        ended = ev.TrainingFinished(
            n, 1, "finished", value=value, memory_gb=1.5, training_seconds=300.0, total_seconds=325.0,
            summary=summary,
        )  # fmt: skip
        self.record(
            ended,
            ev.Judged(n, status, commit, value, 1.5, "better than luck", delta=-0.01, evidence="p 99%"),
            ev.Logged(n),
        )

    def night(self) -> tuple[str, str]:
        """The baseline, a keep, and a third experiment that trains; returns the commits of the last two."""
        self.progress(1, 0, 50)
        self.finish(1, self.start(1), 1.02)
        kept = self.start(2, 0.05)
        self.progress(2, 0, 25, 50)
        self.finish(2, kept, 1.01)
        last = self.start(3, 0.06, kept)
        self.progress(3, 0, 10)
        return kept, last


class Remembers:
    """A tracker that keeps what it is told, and fails as often as it is asked to."""

    where = "a list"

    def __init__(self, failures: int = 0) -> None:
        self.curves: list[tuple[int, int, int]] = []
        """Experiment, training and step of each point."""
        self.told: list[Facts] = []
        self.failures = failures

    def points(self, run: Facts, points: list[Point]) -> None:
        self._fail()
        self.curves += [(run.n, point.training, point.step) for point in points]

    def describe(self, run: Facts) -> None:
        self._fail()
        self.told.append(run)

    def close(self) -> None:
        pass

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no route to the server")

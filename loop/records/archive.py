"""What is kept of past experiments besides the journal.

Their sources are in git; their logs, loss curves and transcripts are files.
"""

from __future__ import annotations

from pathlib import Path

from loop import events as ev
from loop import text
from loop.judging.forecast import Ended
from loop.paths import RunPaths
from loop.records import journal
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder, read_curve, read_progress
from loop.state import Experiment, LiveView, RunState


class KeptArchive:
    """Past experiments of one run, read when they are asked for.

    An agent gets it as its `loop.agents.base.Archive`.
    """

    def __init__(self, repository: Repository, paths: RunPaths, state: RunState) -> None:
        self._repository, self._paths, self._state = repository, paths, state
        self._curves: dict[tuple[int, int], list[ev.CurvePoint]] = {}

    def source(self, n: int) -> str:
        """The editable file as experiment `n` has it; empty before it is committed."""
        commit = self._state.experiment(n).commit
        return (self._repository.read(commit, self._state.editable) or "") if commit else ""

    def before(self, n: int) -> str:
        """The editable file that experiment `n` changed."""
        return self._repository.read(self._state.experiment(n).parent, self._state.editable) or ""

    def log(self, n: int) -> str:
        """The end of the log of its last training, safe to show; empty when it never trained."""
        folder = self._last_training(n)
        return text.clean(folder.end_of_log()) if folder else ""

    def curve(self, n: int) -> list[ev.CurvePoint]:
        """The loss curve of its last training; empty when it never trained."""
        folder = self._last_training(n)
        return read_curve(folder.metrics) if folder else []

    def ended(self, most: int) -> list[Ended]:
        """Loss curve and metric of the newest experiments that trained to their end, at most `most`."""
        measured = [e for e in self._state.experiments if e.judged and e.value is not None][-most:]
        found = [Ended(curve, e.value or 0.0) for e in measured if (curve := self._curve(e))]
        self._curves = {key: self._curves[key] for e in measured if (key := _key(e)) in self._curves}
        return found

    def _curve(self, e: Experiment) -> list[ev.CurvePoint]:
        """The loss curve of a judged experiment, kept in memory: it does not change before a rerun."""
        key = _key(e)
        if key not in self._curves:
            self._curves[key] = self.curve(e.n)
        return self._curves[key]

    def progress(self, n: int) -> list[ev.Progress]:
        """The progress lines of its last training, thinned; empty when it never trained."""
        folder = self._last_training(n)
        return read_progress(folder.metrics) if folder else []

    def detail(self, n: int) -> ev.ExperimentDetail:
        """Everything that the screen of experiment `n` shows."""
        return ev.ExperimentDetail(
            n,
            self._state.editable,
            before=self.before(n),
            after=self.source(n),
            log=self.log(n),
            transcript=read_transcript(self._paths.transcript(n)),
            curve=self.curve(n),
        )

    def _last_training(self, n: int) -> TrainingFolder | None:
        training = self._state.experiment(n).last_training
        return TrainingFolder(self._paths.training(n, training.number)) if training else None


def _key(e: Experiment) -> tuple[int, int]:
    """What the loss curve of an experiment is kept by: its number and that of its last training."""
    return e.n, e.trainings[-1].number if e.trainings else 0


def read_transcript(path: Path) -> list[ev.AgentDelta]:
    """The whole transcript of an experiment, with the streamed pieces of each message joined.

    A torn last line is left out.
    """
    # The live view joins the pieces; a message is complete once the next one has begun behind it.
    view = LiveView()
    messages: list[ev.AgentDelta] = []
    for delta in journal.stream(path, ev.AgentDelta):
        view.apply(delta)
        if len(view.transcript) == 2:
            messages.append(view.transcript.pop(0))
    return messages + view.transcript

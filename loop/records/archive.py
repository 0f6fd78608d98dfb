"""What is kept of every experiment beside the journal: sources in git, logs and transcripts in files."""

from __future__ import annotations

from pathlib import Path

from loop import events as ev
from loop import text
from loop.paths import RunPaths
from loop.records import journal, training_folder
from loop.records.repository import Repository
from loop.state import RunState


class KeptArchive:
    """Past experiments of one run, read when asked for (`loop.agents.base.Archive`)."""

    def __init__(self, repository: Repository, paths: RunPaths, state: RunState) -> None:
        self._repository, self._paths, self._state = repository, paths, state

    def source(self, n: int) -> str:
        commit = self._state.experiment(n).commit
        return (self._repository.read(commit, self._state.editable) or "") if commit else ""

    def before(self, n: int) -> str:
        """The source that experiment `n` changed."""
        return self._repository.read(self._state.experiment(n).parent, self._state.editable) or ""

    def log(self, n: int) -> str:
        run = self._state.experiment(n).last_training
        if run is None:
            return ""
        return text.clean(training_folder.TrainingFolder(self._paths.training(n, run.number)).end_of_log())

    def curve(self, n: int) -> list[ev.CurvePoint]:
        """The loss curve of the experiment's last run."""
        run = self._state.experiment(n).last_training
        return training_folder.read_curve(
            training_folder.TrainingFolder(self._paths.training(n, run.number if run else 1)).metrics
        )

    def detail(self, n: int) -> ev.ExperimentDetail:
        """Everything about experiment `n` for its screen."""
        return ev.ExperimentDetail(
            n,
            self._state.editable,
            before=self.before(n),
            after=self.source(n),
            log=self.log(n),
            transcript=read_transcript(self._paths.transcript(n)),
            curve=self.curve(n),
        )


def read_transcript(path: Path) -> list[ev.AgentDelta]:
    """The whole transcript, streamed pieces of one message joined; a torn last line is left out."""
    whole = RunState()
    pieces: list[ev.AgentDelta] = []
    for delta in journal.stream(path, ev.AgentDelta):
        whole.apply(ev.Record(0, 0.0, delta))
        if len(whole.live.transcript) == 2:
            pieces.append(whole.live.transcript.pop(0))
    return pieces + whole.live.transcript

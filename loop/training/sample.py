"""Lets the saved model of a candidate continue a text.

Loading a model runs code that an agent wrote, so the candidate's sample.py runs behind the fence (aside.py).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from loop import text
from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.training import aside, prepare

SCRIPT = "sample.py"
"""The script beside the editable file that loads a model (nanogpt/sample.py)."""
TIMEOUT_S = 600.0
"""How long loading and sampling may take together."""
MARK = "---\n"
"""The script prints this before the continuation."""


async def sample(
    settings: Settings,
    paths: RunPaths,
    repository: Repository,
    commit: str,
    training: TrainingFolder,
    words: list[str],
) -> str:
    """The text that sample.py of `commit` prints for the model of `training`; `words` are its arguments.

    Raises `UsageError` when the commit has no such script, when another sample of this run is under way, and
    when the script fails.
    """
    command = _command(settings, paths, repository, commit)
    files = await aside.run(
        settings,
        paths,
        repository,
        commit,
        [*command, *words],
        name="sample",
        timeout_s=TIMEOUT_S,
        read=[str(training.out)],
    )
    return _printed(files, commit)


def _command(settings: Settings, paths: RunPaths, repository: Repository, commit: str) -> list[str]:
    """The training's command with sample.py in the place of the editable file."""
    script = str(PurePosixPath(settings.path).with_name(SCRIPT))
    if repository.read(commit, script) is None:
        raise UsageError(f"commit {commit[:7]} has no {script}, which would load the model")
    command = prepare.train_command(settings, paths)
    if settings.path not in command:
        raise UsageError(f"`train_command` does not name {settings.path}: unknown how to start {script}")
    return [script if word == settings.path else word for word in command]


def _printed(files: TrainingFolder, commit: str) -> str:
    """The continuation in the log, safe to show. Raises `UsageError` with the reason when there is none."""
    log = text.clean(files.end_of_log())
    ended = files.read_exit(commit)
    _, mark, continuation = log.partition(MARK)
    if ended is None or ended.outcome != "finished" or not mark:
        reason = ended.reason if ended else "its process was killed"
        if not reason or reason.startswith("exit code"):  # then its last line says more: mostly the exception
            lines = [line for line in text.tail(log).splitlines() if line.strip()]
            reason = lines[-1] if lines else reason or "it printed nothing"
        raise UsageError(f"the model gave no continuation: {reason}")
    return continuation.removesuffix("\n")

"""Which run a command is about."""

from __future__ import annotations

import argparse
import contextlib
import sys
from datetime import date
from pathlib import Path

from loop import events as ev
from loop.errors import JournalError, UsageError
from loop.judging import limits
from loop.paths import HOME, RunPaths, check_tag, new_tag, newest, tags
from loop.records import journal
from loop.records.repository import Repository
from loop.service import attach


def existing(arguments: argparse.Namespace) -> RunPaths:
    """The run that --tag names, or the newest one. Raises `UsageError` when there is none."""
    repository = Repository.discover(Path.cwd())
    try:
        _refuse_foreign_runs(repository)
        root = repository.root
    finally:
        repository.close()
    tag = newest(root, arguments.tag)
    if tag is None:
        raise UsageError("no run here yet: start one with `autoresearch-tui`")
    paths = RunPaths(root, tag)
    paths.check()
    return paths


def _refuse_foreign_runs(repository: Repository) -> None:
    """Raise `UsageError` when runs, or a link in their place, came with the repository."""
    RunPaths(repository.root, "").check()
    if repository.holds(HOME):
        raise UsageError(
            f"{HOME} is committed in {repository.root}: runs of somebody else are not continued; "
            f"remove it with `git rm -r {HOME}` and commit"
        )


def with_engine(arguments: argparse.Namespace) -> RunPaths:
    """The run that --tag names, or the newest one. Raises `UsageError` when its engine is not alive."""
    paths = existing(arguments)
    if not attach.engine_runs(paths):
        raise UsageError(
            f"no engine runs for {paths.tag}: start one with `autoresearch-tui --tag {paths.tag}`, "
            f"or look at it with `autoresearch-tui replay {paths.tag}`"
        )
    return paths


def to_start(tag: str | None, repository: Repository) -> RunPaths:
    """The run to start or continue: the one with this tag, or a new one named after the date.

    Raises `UsageError` when nothing is committed yet, when runs came with the repository, or when the tag
    cannot be one.
    """
    repository.head()
    _refuse_foreign_runs(repository)
    known = tags(repository.root)
    name = check_tag(tag) if tag else new_tag(date.today(), {*known, *repository.tags()})
    return RunPaths(repository.root, name)


def to_run(tag: str | None, repository: Repository) -> RunPaths:
    """The run with this tag; without one the newest run if it is not over, else a new one. Says so.

    HEAD must be where the newest run began: with other code somebody wants another run. Raises `UsageError`
    like `to_start`.
    """
    new = to_start(tag, repository)
    known = [] if tag else tags(repository.root)
    if not known:
        return new
    newest = RunPaths(repository.root, known[-1])
    base = _base_if_unfinished(newest)
    if base == repository.head():
        _say(f"run {newest.tag} goes on; --tag NAME begins another")
        return newest
    if base:
        _say(
            f"HEAD has moved since run {newest.tag} began, so a new run begins; "
            f"--tag {newest.tag} goes on with it"
        )
    return new


def _say(words: str) -> None:
    print(f"autoresearch-tui: {words}", file=sys.stderr, flush=True)


def _base_if_unfinished(paths: RunPaths) -> str:
    """The commit at which a run began whose engine was stopped, or died, before it was over.

    Empty for one that is over, and for one that was imported: it never had an engine.
    """
    base, has_begun, stopped = "", False, ""
    with contextlib.suppress(JournalError):
        for record in journal.each(paths.journal):
            match record.event:
                case ev.RunCreated():
                    base = record.event.base
                case ev.EngineStarted():
                    has_begun, stopped = True, ""
                case ev.EngineStopped(reason=reason):
                    stopped = reason
    return base if has_begun and not limits.is_over(stopped) else ""


def under_way(repository: Repository) -> RunPaths | None:
    """The newest run whose engine is alive. Raises `UsageError` when runs came with the repository."""
    _refuse_foreign_runs(repository)
    runs = [RunPaths(repository.root, tag) for tag in tags(repository.root)]
    return next((run for run in reversed(runs) if attach.engine_runs(run)), None)

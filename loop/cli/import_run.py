"""`autoresearch-tui import`: another tool's results.tsv and its git history become a finished run."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import msgspec

from loop import budget, config
from loop import events as ev
from loop.errors import UsageError, describe
from loop.paths import HOME, RunPaths, check_tag, new_tag, tags, write_whole
from loop.records import foreign_results, imported
from loop.records.repository import Repository, branch_of
from loop.records.verdict_log import note_of
from loop.service import runs
from loop.state import RunState, fold
from loop.text import counted, one_line


def import_run(repository: Repository, file: Path, branch: str | None, tag: str | None) -> list[str]:
    """Write the run; returns lines about what it holds, what was not understood, and what can be done now.

    Nothing is written before all of it is understood: the run's folder, its refs, and its git notes. Raises
    `UsageError`.
    """
    table = foreign_results.read(file)
    if repository.holds(HOME):
        raise UsageError(f"{HOME} is committed in {repository.root}: remove it with `git rm -r {HOME}`")
    tip = repository.branch(branch) if branch else None
    if branch and tip is None:
        raise UsageError(f"there is no branch {branch} here: fetch it, or name another one with --branch")
    commits = imported.commits_of(table, repository, tip)
    if not commits:
        raise UsageError(
            f"git has none of the commits in {file}: run this in the repository where they were made, "
            "or fetch their branch"
        )
    name = _tag(repository, branch, tag)
    base = imported.base_of(table, repository, commits)
    settings = config.load(repository, base, {}, os.environ)
    place = imported.Place(name, settings.path, settings.budget_s or budget.FULL_S)
    made = imported.import_run(table, repository, place, commits)
    state = fold(made.records)
    paths = RunPaths(repository.root, name)
    _write(paths, repository, state, made)
    look = f"look at it with `autoresearch-tui replay {name}`"
    return [_summary(state, len(made.found)), *_doubts(table), look]


def _tag(repository: Repository, branch: str | None, tag: str | None) -> str:
    """The new run's tag: the one that was asked for, or one made of the branch's name or the date."""
    taken = {*tags(repository.root), *repository.tags()}
    if tag is not None:
        if check_tag(tag) in taken:
            raise UsageError(f"run or branch {tag} is there already: name another --tag")
        return tag
    words = [(branch or "").rsplit("/", 1)[-1]]
    words.append(f"{words[0]}-imported")
    for word in words:
        try:
            if check_tag(word) not in taken:
                return word
        except UsageError:  # not every branch's name can be a tag
            continue
    return new_tag(date.today(), taken)


def _write(paths: RunPaths, repository: Repository, state: RunState, made: imported.Import) -> None:
    """Write refs, notes and, last, the journal: where there is none, there is no run."""
    paths.create()
    for n, commit in made.found.items():
        e = state.experiment(n)
        if e.commit == commit:
            repository.keep_candidate(state.tag, n, commit)
            repository.note(commit, note_of(e, state))
    repository.advance(branch_of(state.tag), None, made.tip)
    try:
        overview = runs.overview(state, made.records[-1].t)
        write_whole(paths.folder / runs.FILE, msgspec.json.encode(overview))
        lines = b"".join(ev.encode(record) + b"\n" for record in made.records)
        write_whole(paths.journal, lines, durable=True)
    except OSError as error:
        raise UsageError(describe(error)) from error
    runs.note(paths)


def _doubts(table: foreign_results.Table) -> list[str]:
    """What of the file was not understood, a line each."""
    doubts = []
    if table.left_out:
        lines = counted(len(table.left_out), "line")
        doubts.append(f"{lines} left out that are no experiments, the first of them line {table.left_out[0]}")
    if table.unknown:
        words = ", ".join(one_line(word, 40) for word in table.unknown)
        doubts.append(f"{counted(sum(table.unknown.values()), 'row')} discarded whose status is: {words}")
    return doubts


def _summary(state: RunState, found: int) -> str:
    counts = f"{counted(state.rows, 'experiment')}, {state.kept} kept, {state.crashed} crashed"
    better = "higher" if state.direction == "max" else "lower"
    best = "" if state.best is None else f", best {state.metric} {state.best:.6f} ({better} is better)"
    rest = f"git has the code of {found}, the others have no diff"
    diffs = "git has the code of all" if found == state.rows else rest
    return f"run {state.tag}: {counts}{best}; {diffs}"

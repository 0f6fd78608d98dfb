"""Makes a finished run of another tool's results.tsv and the git history that belongs to it.

An experiment changed what was kept before it, as far as git agrees: its parent is the nearest commit in its
history that was kept. Tools that follow karpathy/autoresearch throw discarded commits away, so that git may
not have them any more. Such an experiment has its row and no diff.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from loop import __version__, merge
from loop import events as ev
from loop.errors import UsageError
from loop.records.foreign_results import Row, Table
from loop.records.repository import Repository

AGENT = "imported"
"""Name of the agent of all its experiments."""
HISTORY_MOST = 10_000
"""Commits that are searched for the parent of an experiment."""


class Place(Struct, frozen=True):
    """What the new run is about."""

    tag: str
    editable: str
    """The file that the experiments changed."""
    budget_s: float
    """How long each training trained; no results.tsv says it."""


class Import(Struct, frozen=True):
    """A run that is ready to be written."""

    records: list[ev.Record]
    found: dict[int, str]
    """The commits that git has, by the experiment's number."""
    tip: str
    """The newest keep that git has: where the run's branch is to be."""


def import_run(table: Table, repository: Repository, place: Place, commits: dict[int, str]) -> Import:
    """The run of a table. `commits` are full commits by the experiment's number, as `commits_of` finds them.

    Raises `UsageError` when there is nothing that it could have begun with.
    """
    base = base_of(table, repository, commits)
    created = ev.RunCreated(
        place.tag,
        str(repository.root),
        base,
        place.editable,
        [],
        table.metric,
        "max" if table.highest_is_best else "min",
    )
    started = ev.EngineStarted(0, __version__, AGENT, budget_s=place.budget_s)
    begun = repository.time(base)
    records = [ev.Record(1, begun, created), ev.Record(2, begun, started)]
    times = _times(
        [
            begun,
            *(repository.time(commits[n]) if n in commits else None for n in range(2, len(table.rows) + 1)),
        ],
        place.budget_s,
    )
    kept: list[str] = []
    best: float | None = None
    for n, row in enumerate(table.rows, 1):
        commit = commits.get(n) or (base if n == 1 and row.status == "keep" else "")
        parent = _parent(repository, commit, kept, base)
        back = commit in kept and row.status != "keep"  # some tools note the commit that they went back to
        commit = parent if back else commit or row.commit
        texts = [repository.read(c, place.editable) for c in (parent, commit)]
        for event in _experiment(n, row, commit, parent, texts, place.budget_s, best):
            records.append(ev.Record(len(records) + 1, times[n - 1], event))
        if row.status == "keep":
            best = row.value
            if commit == base or n in commits:
                kept.append(commit)  # of what git has not got, nothing can have been made
    records.append(ev.Record(len(records) + 1, times[-1], ev.EngineStopped("imported from another tool")))
    return Import(records, commits, kept[-1] if kept else base)


def commits_of(table: Table, repository: Repository, tip: str | None) -> dict[int, str]:
    """The commits of the rows that git has, by the experiment's number.

    `tip` is the branch that the tool worked on: where an abbreviation fits several commits, that one counts
    which is in its history.
    """
    history = set(repository.history(tip, HISTORY_MOST)) if tip else set()
    found = {}
    for n, row in enumerate(table.rows, 1):
        fits = repository.commits(row.commit)
        fits = [commit for commit in fits if commit in history] or fits
        if len(fits) == 1:
            found[n] = fits[0]
    return found


def base_of(table: Table, repository: Repository, commits: dict[int, str]) -> str:
    """The unchanged code: the first row's commit, else what the first keep that git has was made of."""
    if 1 in commits:
        return commits[1]
    for n, row in enumerate(table.rows, 1):
        if row.status == "keep" and n in commits:
            return next(iter(repository.parents(commits[n])), commits[n])
    raise UsageError("git has none of the commits that were kept: fetch the branch they are on, and name it")


def _parent(repository: Repository, commit: str, kept: list[str], base: str) -> str:
    """What an experiment changed: the nearest commit in its history that was kept, else the latest keep."""
    latest = kept[-1] if kept else base
    if commit in kept or not commit or commit == base:
        return latest
    known = {*kept, base}
    for before in repository.history(commit, HISTORY_MOST):
        if before in known:
            return before
    return latest


def _experiment(
    n: int,
    row: Row,
    commit: str,
    parent: str,
    texts: list[str | None],
    budget_s: float,
    best: float | None,
) -> Iterator[ev.DurableEvent]:
    """Everything that happened to one experiment; `texts` are the file that it changed, before and after."""
    before, after = texts
    added, removed = merge.count(before, after) if before is not None and after is not None else (0, 0)
    crashed = row.status == "crash"
    delta = row.value - best if row.value is not None and best is not None else None
    reason = "the baseline" if best is None and not crashed else f"{row.status}, as its results.tsv says"
    yield ev.ExperimentStarted(n, parent, agent=AGENT)
    yield ev.CandidateCommitted(n, commit, parent, row.description, added=added, removed=removed, agent=AGENT)
    yield ev.TrainingStarted(n, 1, commit, seed=0, budget_s=budget_s)  # its seed is not known
    yield ev.TrainingFinished(
        n,
        1,
        "crashed" if crashed else "finished",
        value=row.value,
        memory_gb=row.memory_gb,
        summary=row.more,
    )
    yield ev.Judged(n, row.status, commit, row.value, row.memory_gb, reason, delta)
    yield ev.Logged(n, 0)


def _times(known: list[float | None], budget_s: float) -> list[float]:
    """When each experiment was made, where git knows it of some. Those between two that are known are spread
    evenly; those after the last one follow each other as fast as their trainings allow. None goes back."""
    times: list[float] = []
    for index, t in enumerate(known):
        before = times[-1] if times else 0.0
        later = next((i for i in range(index, len(known)) if known[i] is not None), None)
        if t is not None or not times:
            times.append(max(before, t or 0.0))
        elif later is None:
            times.append(before + budget_s)
        else:
            gap = max(0.0, (known[later] or 0.0) - before)
            times.append(before + gap / (later - index + 1))
    return times

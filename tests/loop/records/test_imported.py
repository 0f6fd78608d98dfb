"""What another tool did becomes a run with diffs, keeps and lineage."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.errors import UsageError
from loop.experiment import lineage
from loop.records import foreign_results, imported
from loop.records.repository import Repository
from loop.state import RunState, fold
from tests.conftest import git, make_repository

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription"


class Theirs:
    """A repository in which another tool works as karpathy/autoresearch does: it resets what is no keep."""

    def __init__(self, folder: Path) -> None:
        self.root = make_repository(folder, "DEPTH = 8\nN = 0\n")
        self.lines = [HEADER]
        self.done("keep", 0.9979)

    def try_out(self, n: int, status: str, value: float, *, lines: int = 1) -> str:
        text = "DEPTH = 8\n" + "".join(f"N = {n}\n" for _ in range(lines))
        (self.root / "train.py").write_text(text)
        git(self.root, "commit", "-qam", f"idea {n}")
        commit = self.done(status, value)
        if status != "keep":
            git(self.root, "reset", "-q", "--hard", "HEAD~1")
        return commit

    def done(self, status: str, value: float) -> str:
        commit = git(self.root, "rev-parse", "HEAD")
        self.lines.append(f"{commit[:7]}\t{value:.6f}\t44.0\t{status}\tidea")
        return commit

    def run(self, root: Path | None = None, tip: str | None = None) -> RunState:
        repository = Repository.discover(root or self.root)
        table = foreign_results.parse("\n".join(self.lines))
        commits = imported.commits_of(table, repository, tip)
        place = imported.Place("mar8", "train.py", 300.0)
        return fold(imported.import_run(table, repository, place, commits).records)


@pytest.fixture
def theirs(tmp_path: Path) -> Theirs:
    return Theirs(tmp_path / "theirs")


def test_keeps_are_a_lineage_and_discards_have_diffs_while_git_still_has_them(theirs: Theirs) -> None:
    first = theirs.try_out(1, "keep", 0.99, lines=3)
    theirs.try_out(2, "discard", 1.01)
    theirs.try_out(3, "crash", 0.0)
    last = theirs.try_out(4, "keep", 0.98)
    state = theirs.run()
    assert [e.phase for e in state.experiments] == ["keep", "keep", "discard", "crash", "keep"]
    assert state.incumbent_commit == last
    assert (state.baseline, state.best, state.stopped) == (0.9979, 0.98, "imported from another tool")
    assert [e.n for e in lineage(state.experiments, last)] == [1, 2, 5]
    assert [e.parent for e in state.experiments[2:]] == [first] * 3
    assert (state.experiments[1].added, state.experiments[1].removed) == (3, 1)
    assert state.experiments[4].delta == pytest.approx(-0.01)
    assert all(e.logged for e in state.experiments)
    assert not state.open


def test_a_clone_has_the_keeps_alone(theirs: Theirs, tmp_path: Path) -> None:
    theirs.try_out(1, "keep", 0.99)
    lost = theirs.try_out(2, "discard", 1.01)
    last = theirs.try_out(3, "keep", 0.98)
    git(tmp_path, "clone", "-q", "--no-local", str(theirs.root), "clone")
    state = theirs.run(tmp_path / "clone")
    assert state.incumbent_commit == last
    assert state.experiments[2].commit == lost[:7]
    assert Repository.discover(tmp_path / "clone").read(lost[:7], "train.py") is None
    assert [e.n for e in lineage(state.experiments, last)] == [1, 2, 4]


def test_commits_between_keeps_do_not_break_the_lineage(theirs: Theirs) -> None:
    theirs.try_out(1, "keep", 0.99)
    (theirs.root / "notes.txt").write_text("by hand\n")
    git(theirs.root, "commit", "-qam", "notes")
    last = theirs.try_out(2, "keep", 0.98)
    state = theirs.run()
    assert [e.n for e in lineage(state.experiments, last)] == [1, 2, 3]


def test_a_discard_under_the_commit_it_went_back_to_shows_no_diff_of_others(theirs: Theirs) -> None:
    kept = theirs.try_out(1, "keep", 0.99)
    theirs.done("discard", 1.0)
    state = theirs.run()
    assert (state.experiments[2].commit, state.experiments[2].parent) == (kept, kept)
    assert (state.experiments[2].added, state.experiments[2].removed) == (0, 0)
    assert state.incumbent == 2


def test_a_first_row_without_a_commit_is_what_the_first_keep_changed(theirs: Theirs) -> None:
    base = git(theirs.root, "rev-parse", "HEAD")
    theirs.lines[1] = "baseline\t0.997900\t44.0\tkeep\tbaseline"
    theirs.try_out(1, "keep", 0.99)
    state = theirs.run()
    assert (state.base, state.experiments[0].commit, state.baseline) == (base, base, 0.9979)


def test_without_any_keep_in_git_there_is_no_run(theirs: Theirs, tmp_path: Path) -> None:
    other = make_repository(tmp_path / "other")
    with pytest.raises(UsageError, match="git has none of the commits that were kept"):
        theirs.run(other)


@pytest.mark.parametrize(
    ("known", "times"),
    [
        ([10.0], [10.0]),
        ([10.0, None, None, 40.0, None, None], [10.0, 20.0, 30.0, 40.0, 340.0, 640.0]),
        ([10.0, 5.0, None, 8.0], [10.0, 10.0, 10.0, 10.0]),
    ],
)
def test_times_that_git_does_not_know_lie_between_those_it_knows(
    known: list[float | None], times: list[float]
) -> None:
    assert imported._times(known, 300.0) == times


def test_times_never_go_back(theirs: Theirs) -> None:
    theirs.try_out(1, "keep", 0.99)
    theirs.lines.append("abcdef0\t1.0\t44.0\tdiscard\tlost")
    repository = Repository.discover(theirs.root)
    table = foreign_results.parse("\n".join(theirs.lines))
    commits = imported.commits_of(table, repository, None)
    found = imported.import_run(table, repository, imported.Place("t", "train.py", 300.0), commits)
    times = [record.t for record in found.records]
    assert times == sorted(times)
    assert [record.seq for record in found.records] == list(range(1, len(times) + 1))

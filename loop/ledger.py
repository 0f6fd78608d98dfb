"""Makes a verdict true outside the journal: branch, git note and results.tsv row. All can be repeated."""

from __future__ import annotations

from loop import results
from loop.paths import RunPaths
from loop.repository import Repository, branch_of
from loop.state import Experiment, RunState


class Ledger:
    """What the world sees of one run's verdicts."""

    def __init__(self, repository: Repository, paths: RunPaths, state: RunState) -> None:
        self._repository, self._paths, self._state = repository, paths, state

    def copies(self, row: str) -> int:
        """Rows like this one that results.tsv holds now."""
        return results.lines(self._paths.results).count(row)

    def write(self, e: Experiment) -> None:
        """Branch, note and row of a judged experiment; what is in place already stays as it is.

        Raises `BranchMoved` or OSError; then it can be called again once the cause is mended.
        """
        if self._state.incumbent is not None:
            self._advance()
        self._repository.note(e.commit, self._note(e))
        row = results.format_row(e.commit, e.value, e.memory_gb, e.phase, e.description)
        if e.replaced:
            old = results.format_row(e.commit, e.value, e.memory_gb, e.replaced, e.description)
            results.change(self._paths.results, old, row)
        else:
            results.append(self._paths.results, row, e.copies)

    def _advance(self) -> None:
        """Put the run's branch on the incumbent; it may be on any commit of ours, or not exist yet."""
        branch, new = branch_of(self._state.tag), self._state.incumbent_commit
        now = self._repository.resolve(f"refs/heads/{branch}")
        ours = {e.commit for e in self._state.experiments if e.value is not None} | {self._state.base}
        self._repository.advance(branch, now if now in ours else None, new)

    def _note(self, e: Experiment) -> str:
        s, value = self._state, "none" if e.value is None else f"{e.value:.6f}"
        return f"experiment: {s.tag} #{e.n}\n{s.metric}: {value}\nstatus: {e.phase}\nreason: {e.reason}\n"

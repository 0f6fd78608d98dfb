"""Makes a verdict true outside the journal: branch, git note and results.tsv row. All can be repeated."""

from __future__ import annotations

from loop.paths import RunPaths
from loop.records import results
from loop.records.repository import Repository, branch_of
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
        if e.replaced:
            results.change(self._paths.results, e.replaced, e.row)
        else:
            results.append(self._paths.results, e.row, e.verdict.copies if e.verdict else 0)

    def _advance(self) -> None:
        """Put the run's branch on the incumbent; it may be on any commit of ours, or not exist yet."""
        branch, new = branch_of(self._state.tag), self._state.incumbent_commit
        now = self._repository.resolve(f"refs/heads/{branch}")
        ours = {e.commit for e in self._state.experiments if e.value is not None} | {self._state.base}
        self._repository.advance(branch, now if now in ours else None, new)

    def _note(self, e: Experiment) -> str:
        s, value = self._state, "none" if e.value is None else f"{e.value:.6f}"
        lines = [f"experiment: {s.tag} #{e.n}", f"{s.metric}: {value}", f"status: {e.phase}"]
        lines += [f"reason: {e.reason}"]
        if e.evidence:
            lines += [f"evidence: {e.evidence}"]
        lines += [
            f"training {t.number}: seed {t.seed}, {t.value:.6f}{'' if t.finished.verified else ', as printed'}"
            for t in e.trainings
            if t.finished and t.value is not None and t.commit == e.commit
        ]
        lines += [f"audit: {finding}" for finding in e.findings]
        return "\n".join(lines) + "\n"

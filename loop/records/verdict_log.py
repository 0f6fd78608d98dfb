"""Makes a verdict true outside the journal: the run's branch, a git note and the row of results.tsv.

Each of the three can be repeated: what is in place already stays as it is. So an engine that was killed in
the middle writes them again and nothing is lost or doubled.
"""

from __future__ import annotations

import asyncio

from loop.paths import RunPaths
from loop.records import results
from loop.records.repository import Repository, branch_of
from loop.records.writer import Writer
from loop.state import Experiment, RunState
from loop.text import one_line


class VerdictLog:
    """What the world outside sees of one run's verdicts."""

    def __init__(self, writer: Writer, paths: RunPaths, state: RunState) -> None:
        self._writer, self._results, self._state = writer, paths.results, state

    async def text(self) -> str | None:
        """What is in results.tsv now; None when there is none."""
        return await asyncio.to_thread(results.text, self._results)

    async def write(self, e: Experiment) -> int:
        """Put branch, note and row of a judged experiment in place; returns how many other lines of
        results.tsv are equal to that row.

        Raises `BranchMoved` when someone else moved the branch, and OSError; once the cause is mended it can
        be called again.
        """
        s, path, branch = self._state, self._results, branch_of(self._state.tag)
        commit, note, row, replaced = e.commit, note_of(e, s), e.row, e.replaced
        copies, tag, n = e.copies, s.tag, e.n

        def write(git: Repository) -> int:
            # Not before: a write that is put off may come after that of a later verdict.
            if s.incumbent is not None:
                now, incumbent = git.resolve(f"refs/heads/{branch}"), s.incumbent_commit
                ours = now == s.base or any(x.commit == now and x.value is not None for x in s.experiments)
                git.advance(branch, now if ours else None, incumbent)
            git.keep_candidate(tag, n, commit)  # in case the disk refused it when the candidate was made
            git.note(commit, note)
            if replaced:
                return results.change(path, replaced, row, copies)
            results.append(path, row, copies)
            return copies

        return await self._writer.do(write)


def note_of(e: Experiment, s: RunState) -> str:
    """The git note of a candidate: its verdict, what speaks for it, and each training that measured it."""
    value = "none" if e.value is None else f"{e.value:.6f}"
    lines = [f"experiment: {s.tag} #{e.n}", f"{s.metric}: {value}", f"status: {e.phase}"]
    lines += [f"reason: {e.reason}"]
    if e.evidence:
        lines += [f"evidence: {e.evidence}"]
    for t in e.trainings:
        if t.finished and t.value is not None and t.commit == e.commit:
            seed = f"seed {t.seed}, " if t.seed else ""  # another tool's is not known
            printed = "" if t.finished.verified else ", as printed"
            lines.append(f"training {t.number}: {seed}{t.value:.6f}{printed}")
    lines += [f"audit: {finding}" for finding in e.findings]
    return "\n".join(one_line(line, 1000) for line in lines) + "\n"

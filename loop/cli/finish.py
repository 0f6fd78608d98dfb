"""`autoresearch-tui finish`: what a run has found, to take home.

It makes a clean branch, a text for a pull request, the change as one patch, and the model's folder. The
run's own branch stays as it is. The new one holds a commit for each keep that led to the incumbent, on the
code that the run began with; its messages say what changed, why, and what the measurements say.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from loop.cli import model, report_page
from loop.errors import UsageError, describe
from loop.experiment import lineage
from loop.paths import RunPaths
from loop.records import models
from loop.records.repository import Repository
from loop.state import Experiment, RunState
from loop.text import counted, one_line

SUBJECT = 72
"""Characters of the first line of a commit message, as git's own tools expect."""


def finish(
    paths: RunPaths, repository: Repository, state: RunState, folder: Path, branch: str | None
) -> list[str]:
    """Make the branch and the folder; returns a line about each thing that was made.

    Raises `UsageError` when nothing was kept beyond the baseline, when the branch is there already, and when
    the folder is not new or cannot be written.
    """
    keeps = lineage(state.experiments, state.incumbent_commit)[1:]
    if not keeps:
        raise UsageError(
            f"run {state.tag} has kept nothing beyond the baseline: there is nothing to take home"
        )
    name = branch or f"{state.tag}-keeps"
    odd = ".." in name or "//" in name or name.endswith((".lock", "/", "."))
    if odd or not re.fullmatch(r"[A-Za-z0-9][\w./-]{0,99}", name, re.ASCII):
        raise UsageError(f"--branch {name!r} cannot be a branch's name")
    if at := repository.resolve(f"refs/heads/{name}"):
        raise UsageError(f"branch {name} is there already (at {at[:7]}): name another one with --branch")
    texts = [_text(repository, state, e) for e in keeps]
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is there and not empty: name a new folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pull-request.md").write_text(pull_request(state, keeps, name), "utf-8")
        (folder / "changes.patch").write_text(_patch(repository, state), "utf-8")
        made = [
            f"{folder}/pull-request.md: what was found and how it was measured",
            f"{folder}/changes.patch",
        ]
        if models.find(paths, state, keeps[-1].n):
            model.export(paths, repository, state, keeps[-1].n, folder / "model")
            made.append(f"{folder}/model: the model of #{keeps[-1].n} and the code that trained it")
    except OSError as error:
        raise UsageError(describe(error)) from error
    head = _commits(repository, state, keeps, texts)
    repository.set_ref(f"refs/heads/{name}", head)  # last: it says that all of this is there
    return [f"branch {name}: {counted(len(keeps), 'commit')} on {state.base[:7]}", *made]


def _text(repository: Repository, state: RunState, e: Experiment) -> str:
    """The editable file of a keep. Raises `UsageError` when its commit is gone."""
    text = repository.read(e.commit, state.editable)
    if text is None:
        raise UsageError(f"commit {e.commit[:7]} of experiment {e.n} is not in this repository any more")
    return text


def _commits(repository: Repository, state: RunState, keeps: list[Experiment], texts: list[str]) -> str:
    """A commit for each keep, one on the other; returns the last one."""
    at = state.base
    before = repository.read(state.base, state.editable)
    for e, text in zip(keeps, texts, strict=True):
        if text != before:  # two keeps may have the same content, when a human changed verdicts
            at, before = repository.commit(at, state.editable, text, message(state, e)), text
    return at


def message(state: RunState, e: Experiment) -> str:
    """The message of a keep's commit: what changed, why, and the evidence."""
    words = one_line(e.description, 1000)
    subject = words if len(words) <= SUBJECT else f"{words[: SUBJECT - 1]}…"
    parts = [subject, *([words] if subject != words else []), *([e.hypothesis] if e.hypothesis else [])]
    parts.append(
        f"{one_line(e.reason, 1000)}\n\nExperiment {e.n} of run {state.tag}, commit {e.commit[:12]}."
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def pull_request(state: RunState, keeps: list[Experiment], branch: str) -> str:
    """The text of a pull request, as Markdown."""
    last = keeps[-1]
    gain = 100 * (last.value / state.baseline - 1) if last.value is not None and state.baseline else 0.0
    changed = counted(len(keeps), "change")
    lines = [
        f"# {state.metric} {_value(state.baseline)} → {_value(last.value)} ({gain:+.2f}%): {changed}",
        "",
        report_page.headline(state),
        "",
        f"Branch `{branch}` has one commit for each change, on {state.base[:12]}.",
        "",
        f"| # | change | {state.metric} | difference | evidence |",
        "|---|---|---|---|---|",
        *(_row(e) for e in keeps),
        "",
        "## How it was measured",
        "",
        *(f"- {line}" for line in _measured(state, last)),
    ]
    return "\n".join(lines) + "\n"


def _row(e: Experiment) -> str:
    """A keep as a row of a Markdown table; what an agent wrote cannot end the cell."""
    difference = f"{e.delta:+.6f}" if e.delta is not None else ""
    cells = (str(e.n), one_line(e.description), _value(e.value), difference, one_line(e.evidence))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _measured(state: RunState, last: Experiment) -> list[str]:
    """How the numbers came about, a sentence each."""
    training = last.last_training
    lines = []
    if training is not None:
        about = training.finished.about if training.finished else ""
        lines.append(
            f"Each training had {training.budget_s:g} s" + (f"; data: {one_line(about)}." if about else ".")
        )
    return [*lines, *report_page.caveats(state, {e.n for e in lineage(state.experiments, last.commit)})]


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _patch(repository: Repository, state: RunState) -> str:
    """The whole change of the editable file, as `git apply` takes it."""
    path = state.editable
    before, after = (repository.read(c, path) or "" for c in (state.base, state.incumbent_commit))
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )

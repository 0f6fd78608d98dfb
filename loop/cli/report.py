"""`autoresearch-tui report`: writes a page about the run for people, or prints a table for programs."""

from __future__ import annotations

import json
from pathlib import Path

from loop.cli import report_page, report_plot
from loop.errors import UsageError, describe
from loop.paths import RunPaths
from loop.records import journal, models
from loop.records.archive import KeptArchive
from loop.records.repository import Repository
from loop.state import fold


def table(paths: RunPaths, kind: str) -> str:
    """Every judged experiment with all its figures; `kind` is json or csv."""
    state = fold(journal.read(paths.journal))
    if kind == "json":
        rows = report_page.table(state)
        return json.dumps({"tag": state.tag, "metric": state.metric, "experiments": rows}, indent=2) + "\n"
    return report_page.as_csv(state)


def write(paths: RunPaths, repository: Repository, folder: Path) -> Path:
    """Write report.html and progress.png into `folder`; returns the page's path.

    Raises `UsageError` when matplotlib is missing or the folder cannot be written.
    """
    state = fold(journal.read(paths.journal))
    archive = KeptArchive(repository, paths, state)
    try:
        picture = report_plot.progress(state)
    except ImportError as error:
        raise UsageError(
            "the report draws with matplotlib: pip install 'autoresearch-tui[report]'"
        ) from error
    found = models.find(paths, state, state.incumbent) if state.incumbent else None
    text = report_page.html(
        state,
        picture,
        lambda e: (archive.before(e.n), archive.source(e.n)),
        model=str(found.model) if found else "",
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "progress.png").write_bytes(picture)
        (folder / "report.html").write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(describe(error)) from error
    return folder / "report.html"

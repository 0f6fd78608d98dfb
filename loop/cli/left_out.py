"""Says what lies in the user's checkout and is not trained: a run trains nothing but what is committed."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from loop.config import Settings
from loop.paths import RunPaths
from loop.records import foreign_files
from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped
from loop.text import one_line

SHOWN = 3
"""Submodules that are named."""


def tell(paths: RunPaths, repository: Repository, settings: Settings) -> bool:
    """Where a new run begins, say on standard error what is left out of it; whether there was something."""
    found = [] if paths.journal.exists() else list(left_out(repository, settings))
    for words in found:
        print(f"autoresearch-tui: {words}", file=sys.stderr, flush=True)
    return bool(found)


def left_out(repository: Repository, settings: Settings) -> Iterator[str]:
    """What is left out of a run that begins now, a line each."""
    head = repository.head()
    for path in settings.editable:
        if _is_changed(repository, head, path):
            yield f"{one_line(path)} has changes that are not committed: what is committed is trained"
    if modules := [one_line(path) for path in repository.submodules(head)]:
        names = ", ".join(modules[:SHOWN])
        more = f" and {len(modules) - SHOWN:,} more" if len(modules) > SHOWN else ""
        are = "submodules {} are" if len(modules) > 1 else "submodule {} is"
        yield f"{are.format(names + more)} not part of a candidate's files"


def _is_changed(repository: Repository, commit: str, path: str) -> bool:
    """Whether the file in the checkout is another one than at the commit. How its lines end does not count:
    git may write them in another way than it stores them."""
    content = read_shaped(repository.root / path, 4 * foreign_files.TEXT_MOST)  # bytes of so many characters
    if content is None:
        return True
    committed = repository.read(commit, path) or ""
    return content.decode("utf-8", "replace").replace("\r\n", "\n") != committed.replace("\r\n", "\n")

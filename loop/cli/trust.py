"""Asks the user, once, for what a repository would do beyond training behind the fence (loop/stranger.py)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from loop import config, stranger
from loop.agents import choose
from loop.errors import UsageError
from loop.records.repository import Repository
from loop.text import one_line


def settings(
    repository: Repository,
    commit: str,
    flags: Mapping[str, Any],
    *,
    trust: bool = False,
    ask: bool = False,
    must: bool = False,
) -> config.Settings:
    """The settings that count here; a line on standard error says which ones do not.

    With `trust` the user has said yes already (--trust). With `ask` whoever is at the terminal may say so.
    With `must` a repository that the user has trusted gets all that it asks for, or `UsageError` is raised: a
    night without what has changed in it would be lost.
    """
    if "agent" in flags:
        choose.check_name(flags["agent"])  # first: a name that is misspelled is nothing to be asked about
    found = stranger.wishes(repository, commit, flags, os.environ)
    if found.open and (trust or (ask and is_terminal() and _agreed(found))):
        found = found.accepted()
        _remember(found, must=not trust)
    if found.open and must and found.asked_before:
        names = ", ".join(wish.name for wish in found.open)
        what = f"not agreed to yet, or changed since then: {names} (of {found.root})"
        raise UsageError(f"{what}; look, and start with --trust")
    if found.open:
        print(f"autoresearch-tui: {one_line(found.ignored(), 2000)}", file=sys.stderr, flush=True)
    return config.load(repository, commit, flags, os.environ, found.names)


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _agreed(found: stranger.Wishes) -> bool:
    """Show what is asked for, and ask."""
    root = one_line(str(found.root), 2000)
    print(f"{root} asks for more than training behind the fence ({found.hash}):", file=sys.stderr)
    for wish in found.open:
        print(f"  {wish}", file=sys.stderr)
    print("Allow this, now and later? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remember(found: stranger.Wishes, must: bool) -> None:
    """Remember the answer. Where it cannot be written, --trust counts for this start alone."""
    with contextlib.suppress(*(() if must else (UsageError,))):
        stranger.remember(found)

"""Decides which change the diff panel shows."""

from __future__ import annotations

import contextlib

from loop.client import ConnectionLost, Refused
from loop.state import Experiment
from tui.link import Link
from tui.panels.diff import Diff, is_mended


async def show_change(diff: Diff, link: Link, candidate: Experiment | None, looked_at: int | None) -> None:
    """Show the candidate that the keys act on, in approval mode; else the change that the human looks at.

    That is experiment `looked_at`, as its agent edits it now or as it was committed. With neither it is what
    any agent has edited last.
    """
    live = link.state.live
    n = candidate.n if candidate is not None else looked_at
    edited = live.edited if n is None else live.edit_of(n)
    number = edited.n if edited is not None else n
    if number is None:
        return
    known = 1 <= number <= len(link.state.experiments)
    e = link.state.experiment(number) if known else None
    # An edit is older than the commit where the candidate was merged onto a newer incumbent.
    if edited is not None and (e is None or e.phase == "proposing" or not e.commit or is_mended(e)):
        diff.show_candidate(link.state, edited, edited.findings)
    elif e is not None:
        with contextlib.suppress(Refused, ConnectionLost):
            diff.show_candidate(link.state, await link.connection.experiment(number), e.findings)

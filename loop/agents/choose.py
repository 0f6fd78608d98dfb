"""Chooses the agent by name. An agent's libraries are imported when it is chosen, not before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from loop.agents.base import Agent
from loop.errors import UsageError

NAMES = ("auto", "search")


def make_agent(
    name: str,
    *,
    model: str = "",
    base_url: str = "",
    api: str = "auto",
    command: Sequence[str] = (),
    environ: Mapping[str, str],
) -> Agent:
    """The agent called `name`. Raises `UsageError` for a name or setting that cannot work here."""
    if name not in NAMES:
        raise UsageError(f"no agent {name!r}: choose one of {', '.join(NAMES)}")
    from loop.agents.search import SearchAgent

    return SearchAgent(device())


def device() -> str:
    """Which block of hyperparameters is in use on this machine."""
    return "cuda" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"

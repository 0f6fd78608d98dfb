"""Which requests of a CLI agent are granted. Pure.

It may read, search, think, and change files inside its directory. Commands, the network and everything
that is not named go ungranted: what an experiment needs is an edited file, and training is the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

GRANTED = ("read", "search", "think", "edit", "delete", "move")


def granted(kind: str | None, paths: Sequence[str], folder: Path) -> bool:
    """Whether a tool call of this kind on these paths is allowed. A change must say where."""
    inside = all(_inside(path, folder) for path in paths)
    if kind in ("edit", "delete", "move"):
        return bool(paths) and inside
    return kind in GRANTED and inside


def _inside(path: str, folder: Path) -> bool:
    """The path, links followed, lies in the folder."""
    real = folder.resolve()
    return (real / path).resolve().is_relative_to(real)

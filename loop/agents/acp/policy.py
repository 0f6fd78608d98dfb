"""Decides which requests of a CLI agent are granted. It looks up links, and does nothing else.

The agent may read, search and think, and it may change files inside its directory. Running commands, using
the network and whatever else it asks for is denied: it only has to edit a file, and the engine does the
training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CHANGES = ("edit", "delete", "move")
GRANTED = ("read", "search", "think", *CHANGES)
"""Kinds of tool calls, as the Agent Client Protocol names them."""


def granted(kind: str | None, paths: Sequence[str], folder: Path) -> bool:
    """Whether a tool call of this kind on these paths is allowed. A change must name at least one path."""
    inside = all(_inside(path, folder) for path in paths)
    if kind in CHANGES:
        return bool(paths) and inside
    return kind in GRANTED and inside


def _inside(path: str, folder: Path) -> bool:
    """Whether the path lies in the folder once links are followed."""
    real = folder.resolve()
    return (real / path).resolve().is_relative_to(real)

"""An experiment's change as a patch that `git apply` takes."""

from __future__ import annotations

import errno
from difflib import unified_diff
from pathlib import Path

from loop.events import ExperimentDetail
from loop.state import RunState


def patch(detail: ExperimentDetail) -> str:
    """The experiment's file against its parent's as a unified diff; empty when nothing changed.

    What is no character and could not be written becomes `?`.
    """
    before, after = detail.before.splitlines(keepends=True), detail.after.splitlines(keepends=True)
    lines = unified_diff(before, after, f"a/{detail.path}", f"b/{detail.path}")
    text = "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
    return text.encode("utf-8", "replace").decode()


def save(text: str, state: RunState, n: int) -> Path:
    """Write the patch into the run's folder, which git ignores, and return where it is. Raises OSError.

    The journal of a stranger may name any folder.
    """
    if Path(state.tag).name != state.tag:
        raise OSError(errno.EINVAL, "the run's tag is no name of a folder", state.tag)
    path = Path(state.repository) / ".autoresearch" / state.tag / f"{n:04d}.patch"
    path.write_text(text, "utf-8")
    return path

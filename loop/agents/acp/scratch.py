"""The throw-away directory a CLI agent works in: copies of what it may read and the one file it may edit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from loop.agents import checks, edits
from loop.agents.acp import process
from loop.agents.base import ResearchContext

PROPOSAL = "proposal.md"
NOTES = "notes.md"
PAST = 30
"""Experiments whose diffs are laid out."""
OLD_S = 6 * 3600.0
"""No proposal takes so long."""


class Scratch:
    """One experiment's directory. What the agent leaves in it beside three files is reported and deleted."""

    def __init__(self, context: ResearchContext) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"autoresearch-{process.owner()}-"))
        self.path = context.path
        files = {**context.readonly, **_past(context), NOTES: context.notes}
        if context.failure:
            files["run.log"] = context.failure.log_tail
        for name, text in files.items():
            self._write(name, text, writable=name == NOTES)
        self._write(
            context.path, context.failure.source if context.failure else context.source, writable=True
        )
        self._before = self._marks()

    def _write(self, name: str, text: str, *, writable: bool) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", "replace")
        path.chmod(0o644 if writable else 0o444)

    def read(self, name: str) -> str | None:
        """A file the agent left, cut at a sane size; None when there is none, or no plain file."""
        try:
            handle = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            return file.read(2 * checks.SOURCE_MOST).decode("utf-8", "replace")

    def proposal(self) -> tuple[str, str]:
        """Description and hypothesis from proposal.md; empty when it is not there."""
        first, _, rest = (self.read(PROPOSAL) or "").strip().partition("\n")
        return first.strip("# ").removeprefix("Description:").strip()[:200], rest.strip()[:2000]

    def strays(self) -> list[str]:
        """What the agent made, changed or deleted besides the files it may."""
        now, own = self._marks(), {self.path, PROPOSAL, NOTES}
        return sorted(n for n in {*now, *self._before} if now.get(n) != self._before.get(n) and n not in own)

    def _marks(self) -> dict[str, str]:
        marks = {}
        for root, folders, files in os.walk(self.folder):
            for name in [*files, *(f for f in folders if (Path(root) / f).is_symlink())]:
                path = Path(root) / name
                relative = path.relative_to(self.folder).as_posix()
                plain = path.is_file() and not path.is_symlink()
                marks[relative] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else "not a file"
                if len(marks) > 5000:
                    return marks
        return marks

    def close(self) -> None:
        """Delete the directory, whatever the agent made of it."""
        _remove(self.folder)


def sweep() -> None:
    """End what killed engines have left: processes, and directories once they are old (another machine may
    use the same folder, and its processes cannot be seen from here)."""
    process.sweep()
    for folder in Path(tempfile.gettempdir()).glob("autoresearch-*"):
        with contextlib.suppress(OSError):
            old = time.time() - folder.lstat().st_mtime > OLD_S
            if old and process.owned_by_the_dead(folder.name) and folder.lstat().st_uid == os.getuid():
                _remove(folder)


def _remove(folder: Path) -> None:
    for root, _, _ in os.walk(folder):
        if not Path(root).is_symlink():
            os.chmod(root, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _past(context: ResearchContext) -> dict[str, str]:
    """`past/0012.diff` for the latest experiments."""
    judged = [e for e in context.experiments if e.judged and e.commit]
    numbers = {e.commit: e.n for e in judged}
    past = {}
    for e in judged[-PAST:]:
        parent = numbers.get(e.parent)
        if parent and parent != e.n:
            before, after = context.archive.source(parent), context.archive.source(e.n)
            past[f"past/{e.n:04d}.diff"] = edits.diff(context.path, before, after) + "\n"
    return past

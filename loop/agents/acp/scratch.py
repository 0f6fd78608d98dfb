"""The scratch directory that a CLI agent works in: it holds copies of what the agent may read and of the
one file that it may edit, and is deleted after the proposal."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path

from loop.agents import checks, dynamics, edits
from loop.agents.acp import process
from loop.agents.acp.home import remove
from loop.agents.base import ResearchContext
from loop.records.shaped_file import read_shaped
from loop.text import clean

PROPOSAL = "proposal.md"
NOTES = "notes.md"
PAST = 30
"""How many of the latest experiments the agent finds in `past/`: what each changed, and how it trained."""
READ_MOST = 4 * (checks.SOURCE_MOST + 1)
"""Bytes that are read of one file: more than the longest source has, whose characters take at most 4 each."""
HASHED_MOST = 16 * 2**20
"""Bytes of a file up to which it is seen that only its content has changed."""
OLD_S = 6 * 3600.0
"""Age from which a directory that a killed engine has left is deleted. No proposal takes so long."""


class Scratch:
    """One experiment's scratch directory.

    The agent may write three files: the editable file, proposal.md and notes.md. Whatever else it changes is
    reported (`strays`) and thrown away.
    """

    def __init__(self, context: ResearchContext) -> None:
        """Make the directory and fill it. Reads the archive: call it in a thread."""
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
        self._before = self._hashes()

    def _write(self, name: str, text: str, *, writable: bool) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", "replace")
        path.chmod(0o644 if writable else 0o444)

    def read(self, name: str) -> str | None:
        """A file that the agent has left; None when it is missing or is not a regular file. A file that is
        too long comes cut, but still longer than `checks.SOURCE_MOST`, so that it is refused."""
        try:
            handle = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            return file.read(READ_MOST).decode("utf-8", "replace")

    def proposal(self) -> tuple[str, str]:
        """Description and hypothesis from proposal.md; both are empty when there is no such file."""
        first, _, rest = (self.read(PROPOSAL) or "").strip().partition("\n")
        return first.strip("# ").removeprefix("Description:").strip()[:200], rest.strip()[:2000]

    def strays(self) -> list[str]:
        """Paths of what the agent has made, changed or deleted besides the files that it may write."""
        now, own = self._hashes(), {self.path, PROPOSAL, NOTES}
        return sorted(n for n in {*now, *self._before} if now.get(n) != self._before.get(n) and n not in own)

    def _hashes(self) -> dict[str, str]:
        """A hash of each file that is not too large, by its path; of at most 5,000 files."""
        hashes = {}
        for root, folders, files in os.walk(self.folder):
            for name in [*files, *(f for f in folders if (Path(root) / f).is_symlink())]:
                path = Path(root) / name
                relative = path.relative_to(self.folder).as_posix()
                content = read_shaped(path, HASHED_MOST)
                hashes[relative] = "no plain file" if content is None else hashlib.sha256(content).hexdigest()
                if len(hashes) > 5000:
                    return hashes
        return hashes

    def close(self) -> None:
        """Delete the directory, whatever rights the agent has given its files."""
        remove(self.folder)


def sweep() -> None:
    """End processes and delete directories that killed engines have left. Only old directories are
    deleted: another machine may share this folder, and it cannot be seen whether its processes live."""
    process.sweep()
    for folder in Path(tempfile.gettempdir()).glob("autoresearch-*"):
        with contextlib.suppress(OSError):
            old = time.time() - folder.lstat().st_mtime > OLD_S
            if old and process.engine_is_gone(folder.name) and folder.lstat().st_uid == os.getuid():
                remove(folder)


def _past(context: ResearchContext) -> dict[str, str]:
    """What the latest experiments have changed and how they trained: texts by their paths, such as
    `past/0012.diff` and `past/0012.curve`."""
    judged = [e for e in context.experiments if e.judged and e.commit]
    numbers = {e.commit: e.n for e in judged}
    past = {}
    for e in judged[-PAST:]:
        parent = numbers.get(e.parent)
        if parent and parent != e.n:
            before, after = context.archive.source(parent), context.archive.source(e.n)
            past[f"past/{e.n:04d}.diff"] = edits.diff(context.path, before, after) + "\n"
            if told := clean(dynamics.report(context, e)):
                past[f"past/{e.n:04d}.curve"] = told + "\n"
    return past

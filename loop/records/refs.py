"""Refs of a git repository that has one for each experiment of each run.

`git gc` moves them into one file, `packed-refs`. dulwich makes a dictionary of that file and keeps it: after
thirty days that takes a tenth of a second, for each new version of the file, and two megabytes.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping

from dulwich.objects import ObjectID
from dulwich.refs import DiskRefsContainer, Ref
from dulwich.repo import Repo


class Refs(DiskRefsContainer):
    """The refs of a repository; packed ones are looked up in git's file each time, and none is kept."""

    def get_packed_refs(self) -> PackedRefs:  # type: ignore[override]
        """What is in `packed-refs` now; dulwich asks it for single names, and for all of them."""
        with contextlib.suppress(FileNotFoundError), open(os.path.join(self.path, b"packed-refs"), "rb") as f:
            return PackedRefs(f.read())
        return PackedRefs(b"")


class PackedRefs(Mapping[Ref, ObjectID]):
    """The text of a `packed-refs` file, as names and what they are at."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def __getitem__(self, name: Ref) -> ObjectID:
        found = re.search(rb"^([0-9a-f]+) " + re.escape(name) + rb"\r?$", self._text, re.MULTILINE)
        if found is None:
            raise KeyError(name)
        return ObjectID(found[1])

    def __iter__(self) -> Iterator[Ref]:
        for found in re.finditer(rb"^[0-9a-f]+ ([^\r\n]+)", self._text, re.MULTILINE):
            yield Ref(found[1])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def use(repo: Repo) -> None:
    """Let a repository look packed refs up in git's file. One with reftables has no such file."""
    if type(repo.refs) is DiskRefsContainer:
        # The same as dulwich gives its own: HEAD is the worktree's, all other refs are the repository's.
        repo.refs = Refs(repo.commondir(), repo.controldir(), repo._write_reflog)

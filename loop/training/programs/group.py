"""The control group of a supervisor: the kernel's own list of all that it has started (cgroups(7)).

A process that has left its parent and wiped its environment is still in the group that it was born in. So its
group tells how many processes a training has and how much processor time even those have used that lived for
a moment; all of them can be killed at once, also when their supervisor is dead. A process can leave its group
only by writing to the kernel's tree of groups, which Landlock refuses. Where there is no Landlock, root's
processes can leave, and those of a user to whom that part of the tree is handed down.

Only with version 2 of control groups, Linux 5.14 or newer, and where this user may make a group below its
own: as root, in a part of the tree that systemd has handed down, in some containers. Elsewhere all of this
does nothing, and a supervisor knows what it has started as its adoptive parent alone (tree.py).

To move a process costs about 10 ms, in which the kernel waits for its other processors. So a supervisor moves
itself while it waits for its order, and what it starts is born in the group. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING or __package__:
    from loop.training.programs import tree
else:  # in a program it is not in its package: its neighbour is found beside it
    import tree

PREFIX = "autoresearch"
"""How the names of our groups begin: `autoresearch.<namespace>.<pid>.<ticks>` tells whose it is."""
PATIENCE_S = 1.0
"""How long to wait until a group whose processes were killed is empty and can be removed."""


class Place(NamedTuple):
    """Where this process is in the kernel's tree of groups."""

    top: Path
    """The highest group that can be seen from here."""
    own: Path


def place() -> Place | None:
    """Where this process is; None where there is no version 2 of control groups, or not in sight."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/cgroup").read_bytes().splitlines()
        inside = next(os.fsdecode(line[3:]) for line in lines if line.startswith(b"0::"))
        for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
            mount, _, kind = line.partition(b" - ")
            if kind.startswith(b"cgroup2 "):
                root, top = (os.fsdecode(_plain(word)) for word in mount.split()[3:5])
                below = os.path.relpath(inside, root)
                # Either can be out of this container's sight, where it begins with "/..".
                if ".." not in f"{inside}/{root}/{below}".split("/"):
                    return Place(Path(top), Path(top, below))
    return None


def _plain(word: bytes) -> bytes:
    """A word of mountinfo without its escapes: it writes a space as `\\040`."""
    for code in (0o40, 0o11, 0o12, 0o134):
        word = word.replace(b"\\%03o" % code, bytes([code]))
    return word


class Group:
    """A new group below that of this process, which moves into it with all that it starts from then on."""

    def __init__(self) -> None:
        self._at: Path | None = None
        """None where there can be none. Then it has no members, and nothing is ended."""
        found = place()
        with contextlib.suppress(OSError):
            if found:
                self._above, folder = found.own, found.own / _name()
                folder.mkdir()
                self._enter(folder)

    def _enter(self, folder: Path) -> None:
        """Move into a new group, or remove it where that fails. Raises OSError."""
        try:
            if (folder / "cgroup.kill").exists():
                _write(folder / "cgroup.procs", "0")
                self._at = folder
        finally:
            if self._at is None:
                folder.rmdir()

    def members(self) -> set[int]:
        """The processes in it and in groups below it, without this one."""
        return _members(self._at) - {os.getpid()} if self._at else set()

    def seconds(self) -> float:
        """Processor time of all its processes since it was made, with this one's and that of the dead."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            if self._at:
                return int((self._at / "cpu.stat").read_text().split()[1]) / 1e6
        return 0.0

    def end(self) -> set[int]:
        """Kill all its processes but this one, which leaves it meanwhile. Returns the ids of those killed."""
        found = self.members()
        if self._at and found:
            with contextlib.suppress(OSError):
                _write(self._above / "cgroup.procs", "0")
                _write(self._at / "cgroup.kill", "1")
                _write(self._at / "cgroup.procs", "0")  # what it starts next is to be born there, too
        return found


def end_abandoned(*, everywhere: bool = False) -> int:
    """Kill what is left in groups whose supervisor is dead, and remove them; returns how many were killed.

    Looks below the group of this process, or `everywhere` that can be seen: the supervisor of an earlier
    login was in another part of the tree.
    """
    found, killed = place(), 0
    with contextlib.suppress(OSError):
        for folder in _abandoned(found, everywhere) if found else ():
            with contextlib.suppress(OSError):
                if living := _members(folder):
                    killed += len(living)
                    _write(folder / "cgroup.kill", "1")
                _remove(folder)
    return killed


def _abandoned(found: Place, everywhere: bool) -> Iterator[Path]:
    """The groups of supervisors that are dead; those in each other from within."""
    if everywhere:
        candidates = (Path(folder) for folder, _, _ in os.walk(found.top, topdown=False))
    else:
        candidates = (path for path in found.own.glob(f"{PREFIX}.*"))
    for path in candidates:
        name, _, owner = path.name.rpartition(".")[0].rpartition(".")
        ticks = path.name.rpartition(".")[2]
        if name == f"{PREFIX}.{_namespace()}" and owner.isdigit() and not _lives(int(owner), ticks):
            yield path


def _lives(pid: int, ticks: str) -> bool:
    """Whether a supervisor lives. Raises OSError when that cannot be known: then its group stays."""
    try:
        found = tree.status(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return found[19] == ticks and found[0] not in "ZX"


def _name() -> str:
    return f"{PREFIX}.{_namespace()}.{os.getpid()}.{tree.ticks(os.getpid())}"


def _namespace() -> str:
    """The number of the namespace in which process ids mean what they mean here: containers share groups."""
    return str(os.stat("/proc/self/ns/pid").st_ino)


def _members(folder: Path) -> set[int]:
    found = set[int]()
    for inner, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in Path(inner, "cgroup.procs").read_text().split()}
    return found


def _remove(folder: Path) -> None:
    """Remove a group whose processes are dead or dying, with the groups in it. Raises OSError."""
    patience = time.monotonic() + PATIENCE_S
    while _members(folder) and time.monotonic() < patience:
        time.sleep(0.005)
    for inner, _, _ in os.walk(folder, topdown=False):
        os.rmdir(inner)


def _write(path: Path, word: str) -> None:
    """Tell the kernel something. Raises OSError, also where there is no such file: it is none of a disk's."""
    opened = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(opened, word.encode())
    finally:
        os.close(opened)

"""Measures what all processes below this one use together, and says which limit they exceed.

Counted is also what is easily overlooked: memory that belongs to no process (memfd_create(2), /dev/shm,
shared mappings), files that were deleted while they are open, and files in folders that nobody may look into.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING or __package__:
    from loop.training.programs import group, leftovers, tree
else:  # in a program it is not in its package: its neighbours are found beside it
    import group
    import leftovers
    import tree

MANY_FILES = 200_000
"""A trainer that writes more files than this is ended."""
DEEP = 200
"""So is one that makes more folders in each other: deeper ones cannot be counted in reasonable time."""
MANY_THREADS = 50_000
"""So is one that has more threads, or nearly half of those that the machine can have (`most_threads`)."""
MANY_OPENED = 200_000
"""So is one that has more files open, counted for each process: that many cannot be measured soon enough.
They are looked at only when its memory or the disk is near its limit, as this takes long."""
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
"""Bytes in a page of memory."""
IN_MEMORY = ("/memfd:", "/dev/shm/", "/dev/zero", "/SYSV")
"""How the names of files begin that are in memory and on no disk, in /proc/<pid>/maps and /proc/<pid>/fd."""

Place = tuple[int, int]
"""Device and inode number of a file."""


class Written(NamedTuple):
    """What lies in some folders."""

    size: float
    """Bytes on the disk."""
    files: int
    deep: bool
    """Folders lie in each other deeper than is looked."""


class Held(NamedTuple):
    """Bytes of files that have no name any more, but are open or mapped."""

    memory: float
    disk: float


class TooMuch(Exception):
    """It would take too long to measure what the processes hold; says why."""


class Meter:
    """Holds the processes below this one to the limits of a `loop.records.training_folder.Spec`."""

    def __init__(
        self, limits: dict[str, Any], memory: int | None = None, own: group.Group | None = None
    ) -> None:
        """`memory` is the folder of the processes' own shared memory, opened; None where they share it with
        all other programs (`sandbox.own_memory`). What is there now does not count. `own` is the group of
        this process, where it has one."""
        self.limits = limits
        self._used: dict[tuple[int, int], float] = {}
        """Processor time of each process that was seen the last time (`processors`)."""
        self._past = 0.0
        """That of those that were seen before, and have ended."""
        self._own, self._group = memory, own
        self._written = on_disk(limits["folders"]).size if limits["disk_gb"] else 0.0
        self._free = free(limits["folders"])
        self._shmem = shmem()
        self._in_memory = in_memory(limits["folders"])
        self._written_to_memory = on_disk(self._in_memory).size if limits["memory_gb"] else 0.0
        self._shared = leftovers.shared() if memory is None else set()
        self._tasks = tasks()

    def is_urgent(self) -> bool:
        """So many processes or threads have appeared on this machine since it was measured that it must not
        wait to measure again."""
        return tasks() - self._tasks > int(self.limits["processes"]) / 2

    def seconds(self) -> float:
        """Processor time of all processes that it has seen."""
        return self._past + sum(self._used.values())

    def excess(self) -> str:
        """The limit that all processes below this one together exceed, in words; empty when there is none."""
        self._tasks = tasks()
        below = set(tree.descendants(os.getpid()))
        pids = sorted(below | self._group.members() if self._group else below)
        used, threads = processors(pids)
        self._past += sum(self._used[process] for process in self._used.keys() - used.keys())
        self._used = used
        if len(pids) > self.limits["processes"]:
            return f"started {len(pids)} processes, limit {self.limits['processes']}"
        if threads > most_threads():
            return f"started {threads:,} threads, limit {most_threads():,}"
        try:
            return self._memory_excess(pids) or self._disk_excess(pids)
        except TooMuch as reason:
            return str(reason)

    def _memory_excess(self, pids: list[int]) -> str:
        most = float(self.limits["memory_gb"]) * 2**30
        if not most or resident(pids) + max(0.0, shmem() - self._shmem) <= most:
            return ""
        size = self._memory(pids)  # exact, but slow
        return f"used {size / 2**30:.1f} GB of memory, limit {most / 2**30:.1f} GB" if size > most else ""

    def _memory(self, pids: list[int]) -> float:
        """Bytes of memory that they use together; what several of them share counts once."""
        private = mapped = 0.0
        for pid in pids:
            own, shared = proportional(pid)
            private, mapped = private + own, mapped + shared
        nameless = held(pids, None if self._own is None else os.fstat(self._own).st_dev).memory
        return private + max(mapped, min(nameless + self._in_shared_memory(), shmem()))

    def _in_shared_memory(self) -> float:
        """Bytes of files in shared memory: all of its own, or what has appeared in that of all programs; and
        of those in folders that are themselves in memory, as /tmp often is."""
        size = on_disk(self._in_memory).size - self._written_to_memory
        if self._own is not None:
            found = os.fstatvfs(self._own)
            return size + float(found.f_blocks - found.f_bfree) * found.f_frsize
        for path, _ in leftovers.shared() - self._shared:
            with contextlib.suppress(OSError):
                size += os.lstat(path).st_blocks * 512
        return size

    def _disk_excess(self, pids: list[int]) -> str:
        most = float(self.limits["disk_gb"]) * 2**30
        if not most:
            return ""
        written, files, deep = on_disk(self.limits["folders"])
        if files > MANY_FILES:
            return f"wrote more than {MANY_FILES:,} files"
        if deep:
            return f"made folders more than {DEEP} deep in each other"
        written -= self._written
        if written <= most and self._free - free(self.limits["folders"]) > most:
            written += held(pids).disk
        return (
            f"wrote {written / 2**30:.1f} GB of files, limit {most / 2**30:.1f} GB" if written > most else ""
        )


def tasks() -> int:
    """How many threads there are on this machine; 0 where that is not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    return 0


def most_threads() -> int:
    """How many threads a training may have. Small machines have numbers for 32,768 processes and threads."""
    numbers = 32_768
    with contextlib.suppress(OSError, ValueError):
        numbers = int(Path("/proc/sys/kernel/pid_max").read_text())
    return min(MANY_THREADS, numbers * 45 // 100)


def shmem() -> float:
    """Bytes of this machine's memory that hold files: memfd, /dev/shm and shared mappings."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Shmem:")) * 1024.0
    return 0.0


def free(folders: list[str]) -> float:
    """Bytes that are free on the disks of these folders together."""
    found: dict[int, float] = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            disk = os.statvfs(folder)
            found[os.stat(folder).st_dev] = float(disk.f_bfree) * disk.f_frsize
    return sum(found.values())


def in_memory(folders: list[str]) -> list[str]:
    """Those of these folders whose files are in memory and on no disk."""
    devices = set[int]()
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
            mount, _, kind = line.partition(" - ")
            if kind.startswith(("tmpfs ", "ramfs ")):
                major, minor = mount.split()[2].split(":")
                devices.add(os.makedev(int(major), int(minor)))
    found = list[str]()
    for folder in folders:
        with contextlib.suppress(OSError):  # it may be gone by now
            if stat.S_ISDIR((at := os.stat(folder)).st_mode) and at.st_dev in devices:
                found.append(folder)
    return found


def resident(pids: list[int]) -> float:
    """Bytes of memory that these processes use; what several of them share is counted for each of them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += int(Path(tree.folder(pid), "statm").read_text().split()[1]) * PAGE
    return total


def proportional(pid: int) -> tuple[float, float]:
    """Bytes that a process uses of ordinary and of shared memory; of what n processes use, an n-th."""
    with contextlib.suppress(OSError, IndexError, ValueError, KeyError):
        lines = Path(tree.folder(pid), "smaps_rollup").read_text().splitlines()[1:]
        kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines}
        shared = kilobytes.get("Pss_Shmem:", 0)
        return (kilobytes["Pss:"] - shared) * 1024.0, shared * 1024.0
    return resident([pid]), 0.0  # a process that this user may not look into


def held(pids: list[int], counted: int | None = None) -> Held:
    """What these processes hold of files without a name; files on the device `counted` are left out.

    Raises `TooMuch` for more than `MANY_OPENED` open files.
    """
    sizes: dict[Place, float] = {}
    memory: set[Place] = set()
    opened_by_all = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            opened_by = f"{tree.folder(pid)}/fd"
            descriptors = os.listdir(opened_by)
            opened_by_all += len(descriptors)
            if opened_by_all > MANY_OPENED:
                raise TooMuch(f"opened more than {MANY_OPENED:,} files at a time")
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    link = f"{opened_by}/{descriptor}"
                    found = os.stat(link)
                    if stat.S_ISREG(found.st_mode) and not found.st_nlink and found.st_dev != counted:
                        place = found.st_dev, found.st_ino
                        sizes[place] = found.st_blocks * 512.0
                        memory |= {place} if os.readlink(link).startswith(IN_MEMORY) else set()
    opened = set(sizes)
    for pid in pids:
        for place, end, name in _mapped(pid):
            if place not in opened and place[0] != counted:
                sizes[place] = max(sizes.get(place, 0.0), end)
                memory |= {place} if name.startswith(IN_MEMORY) else set()
    in_memory = sum(sizes[place] for place in memory)
    return Held(in_memory, sum(sizes.values()) - in_memory)


def _mapped(pid: int) -> list[tuple[Place, float, str]]:
    """The nameless files that a process has mapped: place, how far the mapping reaches into it, and name."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(tree.folder(pid), "maps").read_text("utf-8", "replace").split("\n"):
            if line.endswith(" (deleted)"):
                area, _, offset, device, inode, name = line.split(maxsplit=5)
                first, last = (int(address, 16) for address in area.split("-"))
                major, minor = (int(number, 16) for number in device.split(":"))
                place = os.makedev(major, minor), int(inode)
                found.append((place, float(int(offset, 16) + last - first), name))
    return found


def processors(pids: list[int]) -> tuple[dict[tuple[int, int], float], int]:
    """Processor time that each of these processes has used, by its pid and start time (`tree.ticks`), and how
    many threads they have together.

    Without the time of its children, and of those that have ended.
    """
    found, threads = {}, 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            said = tree.status(pid)
            found[pid, int(said[19])] = (int(said[11]) + int(said[12])) / TICKS_A_SECOND
            threads += int(said[17])
    return found, threads


def on_disk(folders: list[str], files: int = MANY_FILES, deep: int = DEEP) -> Written:
    """What lies below these folders; stops where there are more than `files`, or folders deeper than `deep`.

    It goes by file descriptors, as paths of folders that lie in each other can be too long for the kernel.
    """
    used, count, linked, too_deep = 0.0, 0, set[Place](), False
    for folder in folders:
        levels = [_Level(folder)]
        while levels and count <= files:
            entry = levels[-1].next()
            if entry is None:
                levels.pop().close()
                continue
            count += 1
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                place = found.st_dev, found.st_ino
                if stat.S_ISDIR(found.st_mode):
                    too_deep = too_deep or len(levels) > deep
                    levels += [] if len(levels) > deep else [_Level(entry.name, levels[-1].descriptor)]
                elif found.st_nlink > 1 and place in linked:
                    continue
                linked |= {place} if found.st_nlink > 1 else set()
                used += found.st_blocks * 512
        for level in levels:
            level.close()
    return Written(used, count, too_deep)


class _Level:
    """A folder that is opened and read. Whatever is wrong with it, it seems empty."""

    def __init__(self, name: str, above: int | None = None) -> None:
        self.descriptor = -1
        with contextlib.suppress(OSError):
            self.descriptor = leftovers.open_folder(name, above)
        self._entries = os.scandir(self.descriptor) if self.descriptor >= 0 else None

    def next(self) -> os.DirEntry[str] | None:
        """The next thing in the folder; None at its end."""
        with contextlib.suppress(OSError):
            return next(self._entries, None) if self._entries else None
        return None

    def close(self) -> None:
        if self._entries:
            self._entries.close()
            os.close(self.descriptor)

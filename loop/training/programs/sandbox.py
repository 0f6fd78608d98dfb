"""The fence around a trainer: restricts this process and all its children, and cannot be taken off again.

`supervise.py` calls `enter` in the new process before the trainer starts in it. `python sandbox.py` tries
each measure and prints as JSON which of them this machine's kernel supports. Standard library only.

A process can take all these measures without privileges, also in a container:
- resource limits (setrlimit(2)),
- no new privileges (a setuid program gives none) and no capabilities (root loses its special powers),
- Landlock, which restricts files, TCP and signals (landlock(7)),
- a seccomp filter, which refuses system calls that Landlock does not cover (seccomp(2)).
docs/sandbox.md says what this protects and what it does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from loop.training.programs import calls
else:  # in a program it is not in its package: its neighbour is found beside it
    sys.path.append(str(Path(__file__).parent))
    import calls

LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
"""Options of prctl(2), from linux/prctl.h."""
TASKS, SIGNALS = 50_000, 10_000
"""At most so many threads, which limits fork bombs, and signals that wait for a process. Both count for all
programs of this user together, those outside the fence included."""
SHARED_FILES = 100_000
"""Files in shared memory: each takes a kilobyte of the kernel's, which nobody counts."""
CAP_DAC_OVERRIDE = 1
"""The capability to reach files of other users. Root keeps it: training data may belong to someone else."""
CAPABILITY_VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 of linux/capability.h."""

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000
"""Kinds of namespaces, from linux/sched.h: of mounts, of System V's shared memory, of users."""
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 0x4000, 0x40000
"""Options of mount(2), from linux/mount.h."""

# --- Landlock: names and numbers of linux/landlock.h, without their prefixes ---

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << i for i in range(6))
MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_SYM = (1 << i for i in (7, 8, 9, 10, 12))
REFER, TRUNCATE, IOCTL_DEV, RESOLVE_UNIX = (1 << i for i in (13, 14, 15, 16))
"""Single rights on files and folders (LANDLOCK_ACCESS_FS_*)."""
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | REFER | TRUNCATE
WRITE |= MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV
"""What the fence grants together: on what may be read, on what may be changed, and on devices."""
FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that can be granted on something that is not a folder."""
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 7: 16, 8: 16, 9: 17}
"""How many of the file rights each version of Landlock knows; later ones know at least those of the last."""
TCP, SCOPES = 0b11, 0b11
"""Restrict binding and connecting by TCP; restrict abstract Unix sockets and signals to this process tree."""
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls landlock_*, the same on all machines."""
PATH_BENEATH = 1
"""Kind of rule that grants rights on a folder and all below it."""


def landlock_abi() -> int:
    """The version of Landlock that the kernel offers; 0 when it has none."""
    return max(0, LIBC.syscall(CREATE_RULESET, None, 0, 1)) if LIBC else 0


def landlock(fence: dict[str, Any], abi: int) -> None:
    """Deny all files but those that `fence` names, and TCP and signals to other processes.

    `abi` is the version of Landlock: TCP needs version 4, signals need version 6.
    """
    known = (1 << RIGHTS.get(abi, RIGHTS[9])) - 1
    net = TCP if abi >= 4 and not fence["network"] else 0
    attributes = struct.pack("QQQ", known, net, SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _call("landlock_create_ruleset", CREATE_RULESET, attributes, size, 0)
    own = [f"/proc/{os.getpid()}"]  # CUDA writes the names of its threads there
    hidden = set(fence["hide"])
    above = {folder for path in hidden for folder in _parents(path)}
    done: set[tuple[str, int]] = set()
    for paths, access in ((fence["read"], READ), (fence["write"] + own, WRITE), (fence["devices"], DEVICE)):
        for path in {os.path.realpath(path) for path in paths} - hidden:
            granted = access & known if os.path.isdir(path) else access & known & FILE
            for opened in openings(path, granted, hidden, above):
                if opened not in done:
                    done.add(opened)
                    with contextlib.suppress(FileNotFoundError, PermissionError, NotADirectoryError):
                        _allow(ruleset, *opened)
    _call("landlock_restrict_self", RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def openings(path: str, access: int, hidden: set[str], above: set[str]) -> Iterator[tuple[str, int]]:
    """Which paths to open with which rights, so that all below `path` is open but what is hidden.

    Landlock only grants: a right on a folder holds for all below it. So where something below a folder is
    hidden, the folder itself can only be listed, and what else is in it is opened one by one. What is added
    there later is closed. `above` are the folders above what is hidden; all paths are free of links.
    """
    if path not in above:
        yield path, access
        return
    if access & READ_DIR:
        yield path, READ_DIR
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            # A link needs no right, and where it leads may be meant to stay closed.
            if entry.path in hidden or entry.is_symlink():
                continue
            if entry.is_dir():
                yield from openings(entry.path, access, hidden, above)
            else:
                yield entry.path, access & FILE


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _allow(ruleset: int, path: str, access: int) -> None:
    """Grant rights on a path and, if it is a folder, on all below it."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _call("landlock_add_rule", ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", access, fd), 0)
    finally:
        os.close(fd)


# --- seccomp ---

SECCOMP = {"x86_64": 317, "aarch64": 277}
"""Number of the system call seccomp."""
SET_FILTER, NEW_LISTENER = 1, 8
"""SECCOMP_SET_MODE_FILTER, and the flag SECCOMP_FILTER_FLAG_NEW_LISTENER."""


def seccomp(network: bool, abi: int, asked: bool) -> int | None:
    """Refuse the system calls that lead around the fence (calls.py).

    Where connect() has to be decided by path, and somebody is there to be `asked`, this returns a file
    descriptor by which a listener hears of such calls; else connect() is refused.
    """
    machine = platform.machine()
    if asked and not network and abi < 9:
        with contextlib.suppress(OSError):  # there can be only one listener, and the container may have it
            return _filter(calls.program(machine, network, abi, True), NEW_LISTENER)
    _filter(calls.program(machine, network, abi), 0)
    return None


def _filter(code: bytes, flags: int) -> int:
    """Install a filter; returns the listener if the flags ask for one."""
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a length, and after its padding a pointer
    prog = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    return _call("seccomp", SECCOMP[platform.machine()], SET_FILTER, flags, prog)


# --- shared memory ---


def own_memory(most: int = 0) -> int:
    """Give this process and its children shared memory of their own, empty and gone when they end.

    That is /dev/shm with at most `most` bytes (0: half of the machine's memory), System V's and POSIX message
    queues. Root may do it. Other users can if the kernel gives them a namespace of users, in which nobody but
    themselves exists. Returns a file descriptor by which others can see how much is in there. Raises OSError.
    """
    user, group = os.getuid(), os.getgid()
    _checked("unshare", CLONE_NEWNS | CLONE_NEWIPC | (CLONE_NEWUSER if user else 0))
    if user:
        for name, content in (
            ("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")
        ):  # fmt: skip
            with open(f"/proc/self/{name}", "w") as file:
                file.write(content)
    _checked("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV)
    options = f"mode=1777,nr_inodes={SHARED_FILES}" + (f",size={most}" if most else "")
    _checked("mount", b"tmpfs", b"/dev/shm", b"tmpfs", flags, options.encode())
    return os.open("/dev/shm", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


# --- limits, capabilities, and all of it together ---


def limit(fence: dict[str, Any]) -> None:
    """Set resource limits: no core dumps, no real-time schedule, and files of at most `file_bytes`.

    A core dump that goes to a program, as to systemd's, is kept at a limit of 0 too, but not at 1 (core(5)).
    Of the threads and the waiting signals that this user's programs may have together, a quarter is left to
    the others, so that they can go on. A limit that cannot be set stays as it is.
    """
    _set_limit(resource.RLIMIT_CORE, 1, 1)  # refused where the limit in force is 0
    for name, limit in (("RTPRIO", 0), ("NICE", 0), ("NPROC", TASKS), ("SIGPENDING", SIGNALS)):
        if (kind := getattr(resource, f"RLIMIT_{name}", None)) is not None:  # macOS lacks some
            most = resource.getrlimit(kind)[1]
            share = limit if most == resource.RLIM_INFINITY else min(limit, most * 3 // 4)
            _set_limit(kind, share, share)
    if fence["file_bytes"]:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        size = fence["file_bytes"] if most == resource.RLIM_INFINITY else min(most, fence["file_bytes"])
        _set_limit(resource.RLIMIT_FSIZE, size, size)


def _set_limit(kind: int, soft: int, hard: int) -> None:
    """Set a resource limit if this process may: gVisor, for one, refuses some of them to everybody."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (soft, hard))


def drop_capabilities() -> None:
    """Give up all capabilities but `CAP_DAC_OVERRIDE`. Only root has any; for other users nothing changes."""
    assert LIBC is not None
    header, old = struct.pack("Ii", CAPABILITY_VERSION, 0), ctypes.create_string_buffer(24)
    if LIBC.capget(header, old) != 0:
        return
    for capability in range(64):
        if capability != CAP_DAC_OVERRIDE:
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    permitted = struct.unpack("6I", old.raw)[1] & (1 << CAP_DAC_OVERRIDE)
    LIBC.capset(header, struct.pack("6I", permitted, permitted, 0, 0, 0, 0))


def enter(fence: dict[str, Any], channel: socket.socket | None = None) -> None:
    """Put this process behind the fence, for ever (`fence`: `loop.records.training_folder.Fence`).

    Through `channel`, a socket to the supervisor, go file descriptors by their names: `memory` (`own_memory`)
    and `listener` (`seccomp`). Raises OSError when a measure fails that the fence asks for.
    """
    limit(fence)
    if not fence["on"] or LIBC is None:
        return
    passed: dict[str, int] = {}
    if fence["memory"]:
        passed["memory"] = own_memory(fence.get("memory_bytes", 0))
    _no_new_privs()
    drop_capabilities()
    abi = fence["landlock"]
    if abi:
        landlock(fence, abi)
    if fence["seccomp"]:
        listener = seccomp(fence["network"], abi, channel is not None)
        passed |= {} if listener is None else {"listener": listener}
    _pass_on(passed, channel)


def _pass_on(passed: dict[str, int], channel: socket.socket | None) -> None:
    """Send file descriptors through a socket, and close them.

    The kernel refuses that while programs of this user have more of them on their way than the sender may
    open. So from here on this process may open a quarter less: no training keeps the next one from its start.
    """
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    _set_limit(resource.RLIMIT_NOFILE, most, most)
    if channel and passed:
        socket.send_fds(channel, [" ".join(passed).encode()], list(passed.values()))
    if most == resource.RLIM_INFINITY:
        _set_limit(resource.RLIMIT_NOFILE, now, most)
    else:
        share = most * 3 // 4
        _set_limit(resource.RLIMIT_NOFILE, min(now, share), share)
    for descriptor in passed.values():
        os.close(descriptor)


def _no_new_privs() -> None:
    assert LIBC is not None
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, one, zero, zero, zero) != 0:
        raise OSError(ctypes.get_errno(), f"no_new_privs: {os.strerror(ctypes.get_errno())}")


def _checked(name: str, *arguments: Any) -> None:
    """Call a function of libc. Raises OSError, which names it."""
    assert LIBC is not None
    if getattr(LIBC, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _call(what: str, number: int, *arguments: Any) -> int:
    """Make a system call by its number. Raises OSError, which names it as `what`."""
    assert LIBC is not None
    result: int = LIBC.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def probe() -> dict[str, int]:
    """Try each measure: the version of Landlock (0: none), whether a filter can be installed (1 or 0), and
    whether a process can have shared memory of its own."""
    found = {"landlock": 0, "seccomp": 0, "memory": 0}
    everything = {"read": ["/"], "write": [], "devices": [], "hide": [], "network": False}
    with contextlib.suppress(OSError, AssertionError, AttributeError):
        with contextlib.suppress(OSError):
            os.close(own_memory())
            found["memory"] = 1
        _no_new_privs()
        with contextlib.suppress(OSError):
            if abi := landlock_abi():
                landlock(everything, abi)
                found["landlock"] = abi
        if platform.machine() in calls.CALLS:
            seccomp(False, found["landlock"], False)
            found["seccomp"] = 1
    return found


if __name__ == "__main__":
    print(json.dumps(probe()))

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
import errno
import json
import os
import platform
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
"""Options of prctl(2), from linux/prctl.h."""
TASKS = 50_000
"""Limits fork bombs; counts all threads of this user, those outside the fence included."""
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


# --- seccomp: names and numbers of linux/seccomp.h and linux/filter.h ---

CALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "keyctl": 250,
        "add_key": 248, "request_key": 249, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "setns": 308, "unshare": 272,
        "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246,
        "kexec_file_load": 320, "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "quotactl": 179,
        "settimeofday": 164, "clock_settime": 227, "adjtimex": 159, "clock_adjtime": 305,
        "sethostname": 170, "setdomainname": 171, "open_by_handle_at": 304, "syslog": 103, "vhangup": 153,
        "move_pages": 279, "migrate_pages": 256, "iopl": 172, "ioperm": 173, "chown": 92, "fchown": 93,
        "lchown": 94, "fchownat": 260, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
        "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "chmod": 90, "fchmodat": 268,
        "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280, "socket": 41, "socketpair": 53,
        "connect": 42, "clone": 56, "prlimit64": 302,
    },
    "aarch64": {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "keyctl": 219,
        "add_key": 217, "request_key": 218, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "setns": 268, "unshare": 97,
        "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104,
        "kexec_file_load": 294, "reboot": 142, "swapon": 224, "swapoff": 225, "acct": 89, "quotactl": 60,
        "settimeofday": 170, "clock_settime": 112, "adjtimex": 171, "clock_adjtime": 266,
        "sethostname": 161, "setdomainname": 162, "open_by_handle_at": 265, "syslog": 116, "vhangup": 58,
        "move_pages": 239, "migrate_pages": 238, "fchown": 55, "fchownat": 54, "setxattr": 5,
        "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
        "fchmodat": 53, "utimensat": 88, "socket": 198, "socketpair": 199, "connect": 203, "clone": 220,
        "prlimit64": 261,
    },
}  # fmt: skip
"""System calls that are refused or restricted, with their numbers where these differ between machines."""
EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "setxattrat": 463,
    "removexattrat": 466, "open_tree_attr": 467, "file_setattr": 469,
}  # fmt: skip
"""System calls that are refused, with the numbers that they have on all machines."""
PRETENDED = ("chmod", "fchmodat", "utime", "utimes", "futimesat", "utimensat")
"""These calls do nothing and report success. They change modes and times of files by path, which Landlock
does not restrict; libraries call them where it hardly matters, and would fail if they were refused."""
CLONE3, FCHMODAT2, FIRST_UNKNOWN = 435, 452, 470
"""Calls from the number FIRST_UNKNOWN on are newer than this file; they fail as if the kernel lacked them."""
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""By which number a filter is told the kind of machine (linux/audit.h)."""
NAMESPACES = 0x7E020000
"""Flags of clone() that create namespaces, in which a process has more rights."""
AF_UNIX, SOCK_STREAM, SOCK_SEQPACKET = 1, 1, 5
"""Family and types of sockets, from linux/socket.h and linux/net.h."""
LOAD, EQUAL, AT_LEAST, ANY, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
"""Instructions of a filter: load a word; jump if it equals, is at least, or has a bit of; mask it; return."""
ALLOW, ERRNO, KILL, ASK = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FC00000
"""What a filter returns: do the call, fail with an errno (0: do nothing), kill, or ask the listener."""
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24
"""Offsets in struct seccomp_data: number of the call, machine, low words of the first two arguments."""

SECCOMP = {"x86_64": 317, "aarch64": 277}
"""Number of the system call seccomp."""
SET_FILTER, NEW_LISTENER = 1, 8
"""SECCOMP_SET_MODE_FILTER, and the flag SECCOMP_FILTER_FLAG_NEW_LISTENER."""

Instruction = tuple[int, int, int, int]
"""An instruction, how many instructions to skip if its condition holds, how many if not, and its operand."""
Code = list[Instruction]


def program(machine: str, network: bool, abi: int, asked: bool = False) -> bytes:
    """The seccomp filter for a machine of this kind, as BPF code.

    Refused calls fail with a permission error, which the trainer's traceback shows. `abi` is the version of
    Landlock. `asked` says whether there is a listener that decides about connect() (see `broker.py`).
    """
    calls = {**CALLS[machine], **EVERYWHERE}
    code: Code = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, ARCH[machine]), (RETURN, 0, 0, KILL)]
    code += [(LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, FIRST_UNKNOWN), _refuse(errno.ENOSYS)]
    code += _case(CLONE3, [_refuse(errno.ENOSYS)])  # a filter cannot see its flags; libc uses clone() instead
    code += _case(FCHMODAT2, [(RETURN, 0, 0, ERRNO)])
    code += _case(calls.pop("clone"), [(LOAD, 0, 0, FIRST), (ANY, 0, 1, NAMESPACES), _refuse(errno.EPERM)])
    code += _case(calls.pop("prlimit64"), [(LOAD, 0, 0, FIRST), (EQUAL, 1, 0, 0), _refuse(errno.EPERM)])
    new_socket, new_pair, connect = (calls.pop(name) for name in ("socket", "socketpair", "connect"))
    if not network:
        code += _case(new_socket, _unix_only(SOCK_STREAM))
        code += _case(new_pair, _unix_only(SOCK_STREAM, SOCK_SEQPACKET))
        if abi < 9:  # from version 9 on Landlock restricts connecting to socket files
            code += _case(connect, [(RETURN, 0, 0, ASK) if asked else _refuse(errno.EACCES)])
    for name, number in calls.items():
        code += _case(number, [(RETURN, 0, 0, ERRNO) if name in PRETENDED else _refuse(errno.EPERM)])
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _refuse(error: int) -> Instruction:
    """Let the call fail with this errno."""
    return RETURN, 0, 0, ERRNO | error


def _case(number: int, then: Code) -> Code:
    """Do `then` if the call has this number, and allow the call if `then` does not return."""
    return [(EQUAL, 0, len(then) + 1, number), *then, (RETURN, 0, 0, ALLOW)]


def _unix_only(*types: int) -> Code:
    """Refuse sockets that are not Unix sockets of one of these types.

    Datagram sockets must not be among them: they can send to any socket file without connect().
    """
    wanted: Code = [(EQUAL, len(types) - i, 0, kind) for i, kind in enumerate(types)]
    return [
        (LOAD, 0, 0, FIRST), (EQUAL, 1, 0, AF_UNIX), _refuse(errno.EACCES),
        (LOAD, 0, 0, SECOND), (AND, 0, 0, 0xF), *wanted, _refuse(errno.EACCES),
    ]  # fmt: skip


def seccomp(network: bool, abi: int, channel: socket.socket | None) -> None:
    """Refuse the system calls that lead around the fence.

    Where connect() has to be decided by path, the file descriptor of a listener for it is sent through
    `channel` to the supervisor; without `channel`, connect() is refused.
    """
    if channel and not network and abi < 9:
        with contextlib.suppress(OSError):  # there can be only one listener, and the container may have it
            listener = _filter(program(platform.machine(), network, abi, True), NEW_LISTENER)
            socket.send_fds(channel, [b"listener"], [listener])
            os.close(listener)
            return
    _filter(program(platform.machine(), network, abi), 0)


def _filter(code: bytes, flags: int) -> int:
    """Install a filter; returns the listener if the flags ask for one."""
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a length, and after its padding a pointer
    prog = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    return _call("seccomp", SECCOMP[platform.machine()], SET_FILTER, flags, prog)


# --- shared memory ---


def own_memory() -> None:
    """Give this process and its children shared memory of their own, empty and gone when they end.

    That is /dev/shm, System V's and POSIX message queues. Root may do it. Other users can if the kernel gives
    them a namespace of users, in which nobody but themselves exists. Raises OSError.
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
    _checked("mount", b"tmpfs", b"/dev/shm", b"tmpfs", flags, b"mode=1777")


# --- limits, capabilities, and all of it together ---


def limit(fence: dict[str, Any]) -> None:
    """Set resource limits: no core dumps, `TASKS` threads, and files of at most `file_bytes`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # the limit in force may be lower and cannot be raised
        resource.setrlimit(resource.RLIMIT_NPROC, (TASKS, TASKS))
    if fence["file_bytes"]:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        size = fence["file_bytes"] if most == resource.RLIM_INFINITY else min(most, fence["file_bytes"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


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

    `channel` is a socket to the supervisor, as in `seccomp`. Raises OSError when a measure fails that the
    fence asks for.
    """
    limit(fence)
    if not fence["on"] or LIBC is None:
        return
    if fence["memory"]:
        own_memory()
    _no_new_privs()
    drop_capabilities()
    abi = fence["landlock"]
    if abi:
        landlock(fence, abi)
    if fence["seccomp"]:
        seccomp(fence["network"], abi, channel)


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
            own_memory()
            found["memory"] = 1
        _no_new_privs()
        with contextlib.suppress(OSError):
            if abi := landlock_abi():
                landlock(everything, abi)
                found["landlock"] = abi
        if platform.machine() in CALLS:
            seccomp(False, found["landlock"], None)
            found["seccomp"] = 1
    return found


if __name__ == "__main__":
    print(json.dumps(probe()))

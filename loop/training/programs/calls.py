"""The system calls that the fence refuses, as a seccomp filter (seccomp(2)). Standard library only.

A filter sees the number of a call and its arguments, but nothing that they point to. So what depends on a
path is Landlock's; here is what Landlock does not cover.
"""

from __future__ import annotations

import errno
import struct

CALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "keyctl": 250,
        "add_key": 248, "request_key": 249, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "setns": 308, "unshare": 272,
        "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246,
        "kexec_file_load": 320, "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "quotactl": 179,
        "settimeofday": 164, "clock_settime": 227, "adjtimex": 159, "clock_adjtime": 305,
        "sethostname": 170, "setdomainname": 171, "open_by_handle_at": 304, "name_to_handle_at": 303,
        "syslog": 103, "vhangup": 153, "move_pages": 279, "migrate_pages": 256, "iopl": 172, "ioperm": 173,
        "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "setxattr": 188, "lsetxattr": 189,
        "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199,
        "lookup_dcookie": 212, "shmget": 29, "shmat": 30, "shmctl": 31, "shmdt": 67, "semget": 64,
        "semop": 65, "semctl": 66, "semtimedop": 220, "msgget": 68, "msgsnd": 69, "msgrcv": 70,
        "msgctl": 71, "mq_open": 240, "mq_unlink": 241, "inotify_init": 253, "inotify_init1": 294,
        "inotify_add_watch": 254, "fanotify_init": 300, "fanotify_mark": 301, "chmod": 90, "fchmod": 91,
        "fchmodat": 268, "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280, "open": 2,
        "openat": 257, "creat": 85, "mknod": 133, "mknodat": 259, "socket": 41, "socketpair": 53,
        "connect": 42, "clone": 56, "prlimit64": 302, "setpriority": 141, "ioprio_set": 251,
        "sched_setaffinity": 203, "sched_setattr": 314, "sched_setscheduler": 144, "sched_setparam": 142,
        "ioctl": 16, "fcntl": 72, "fallocate": 285, "personality": 135, "prctl": 157,
    },
    "aarch64": {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "keyctl": 219,
        "add_key": 217, "request_key": 218, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "setns": 268, "unshare": 97,
        "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104,
        "kexec_file_load": 294, "reboot": 142, "swapon": 224, "swapoff": 225, "acct": 89, "quotactl": 60,
        "settimeofday": 170, "clock_settime": 112, "adjtimex": 171, "clock_adjtime": 266,
        "sethostname": 161, "setdomainname": 162, "open_by_handle_at": 265, "name_to_handle_at": 264,
        "syslog": 116, "vhangup": 58, "move_pages": 239, "migrate_pages": 238, "fchown": 55,
        "fchownat": 54, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14,
        "lremovexattr": 15, "fremovexattr": 16, "lookup_dcookie": 18, "shmget": 194, "shmat": 196,
        "shmctl": 195, "shmdt": 197, "semget": 190, "semop": 193, "semctl": 191, "semtimedop": 192,
        "msgget": 186, "msgsnd": 189, "msgrcv": 188, "msgctl": 187, "mq_open": 180, "mq_unlink": 181,
        "inotify_init1": 26, "inotify_add_watch": 27, "fanotify_init": 262, "fanotify_mark": 263,
        "fchmod": 52, "fchmodat": 53, "utimensat": 88, "openat": 56, "mknodat": 33, "socket": 198,
        "socketpair": 199, "connect": 203, "clone": 220, "prlimit64": 261, "setpriority": 140,
        "ioprio_set": 30, "sched_setaffinity": 122, "sched_setattr": 274, "sched_setscheduler": 119,
        "sched_setparam": 118, "ioctl": 29, "fcntl": 25, "fallocate": 47, "personality": 92, "prctl": 167,
    },
}  # fmt: skip
"""System calls that are refused or restricted, with their numbers where these differ between machines."""
EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447,
    "process_mrelease": 448, "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466,
    "open_tree_attr": 467, "file_setattr": 469,
}  # fmt: skip
"""The same for system calls that have one number on all machines."""
CLONE3, OPENAT2, FIRST_UNKNOWN = 435, 437, 470
"""The first two hide their flags from a filter, and libc does without them. Calls from the number
FIRST_UNKNOWN on are newer than this file. All of these fail as if the kernel lacked them."""
MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
TIMES = ("utime", "utimes", "futimesat", "utimensat")
"""These calls do nothing and report success. They change modes and times of any file that is the user's,
which Landlock does not restrict; libraries call them where it hardly matters, and would fail if they were
refused. The number says which argument is the mode."""
MAKING = {"creat": (None, 1), "open": (1, 2), "openat": (2, 3), "mknod": (None, 1), "mknodat": (None, 2)}
"""Calls that make a file: which argument holds flags that say whether they do, and which one the mode."""
O_CREATES, SETS_ID = 0x40 | 0x400000, 0o6000
"""O_CREAT and O_TMPFILE of linux/fcntl.h; the bits of a mode with which a program runs as its file's owner
or group: whoever can start it would act as this user."""
ONLY_SELF = ("sched_setattr", "sched_setscheduler", "sched_setparam", "prlimit64")
"""Calls that change a process, which they may do to the caller: where their first argument is 0."""
IOCTLS = (
    0x5412, 0x541C,  # TIOCSTI and TIOCLINUX type into a terminal
    0x40087602, 0x40047602,  # FS_IOC_SETVERSION
)  # fmt: skip
"""Commands of ioctl() that are refused (linux/tty.h, linux/fs.h)."""
OF_FILE_SYSTEMS = (0x6600, 0x5800, 0x9400, 0xF500)
"""Kinds of commands of ioctl(), the second byte of each: those of file systems. They need no right to write,
so Landlock lets them pass on whatever may be read: they set attributes, seal a file for ever (fs-verity),
encrypt a folder, make snapshots. Programs do without, as not every file system has them."""
F_SETLEASE, F_NOTIFY = 1024, 1026
"""Commands of fcntl() that are refused: with a lease one holds up others who open the file; the other one
tells of every change in a folder."""
PUNCH_HOLE = 3
"""Mode of fallocate() that frees space. Other modes than this and 0 take space that the file's size hides."""
PRCTLS = (4, 35)
"""Options of prctl() that are refused. PR_SET_DUMPABLE: a process that is not dumpable cannot be measured by
a supervisor without root's rights. PR_SET_MM: an environment in /proc grows beyond any reader's memory."""
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
NUMBER, ARCHITECTURE = 0, 4
"""Offsets in struct seccomp_data: number of the call, and kind of machine."""

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
    for number in (CLONE3, OPENAT2):
        code += _case(number, [_refuse(errno.ENOSYS)])
    cases = _restricted() | _sockets(network, abi, asked)
    # The frequent ones first: each call passes through all cases before its own.
    for name in sorted(calls, key=lambda name: name not in ("openat", "ioctl", "fcntl", "open")):
        code += _case(calls[name], cases.get(name, [_refuse(errno.EPERM)]))
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _restricted() -> dict[str, Code]:
    """What is done with the calls that are not simply refused."""
    nothing: Instruction = (RETURN, 0, 0, ERRNO)
    refuse = _refuse(errno.EPERM)
    cases: dict[str, Code] = {
        name: [_argument(mode), (ANY, 0, 1, SETS_ID), refuse, nothing] for name, mode in MODES.items()
    }
    cases |= {name: [nothing] for name in TIMES}
    for name, (flags, mode) in MAKING.items():
        makes: Code = [] if flags is None else [_argument(flags), (ANY, 0, 3, O_CREATES)]
        cases[name] = [*makes, _argument(mode), (ANY, 0, 1, SETS_ID), refuse]
    cases |= {name: [_argument(0), (EQUAL, 1, 0, 0), refuse] for name in ONLY_SELF}
    # OpenMP moves its own threads by their number, so this one is not refused, but does nothing.
    cases["sched_setaffinity"] = [_argument(0), (EQUAL, 1, 0, 0), nothing]
    # `which` 0 (of setpriority) and 1 (of ioprio_set) is a single process; others are groups and users.
    for name, single in (("setpriority", 0), ("ioprio_set", 1)):
        cases[name] = [
            _argument(0), (EQUAL, 1, 0, single), refuse, _argument(1), (EQUAL, 1, 0, 0), refuse,
        ]  # fmt: skip
    cases["clone"] = [_argument(0), (ANY, 0, 1, NAMESPACES), refuse]
    cases["ioctl"] = [
        _argument(1), *_any_of(IOCTLS, refuse),
        (AND, 0, 0, 0xFF00), *_any_of(OF_FILE_SYSTEMS, _refuse(errno.EOPNOTSUPP)),
    ]  # fmt: skip
    cases["fcntl"] = [_argument(1), *_any_of((F_SETLEASE, F_NOTIFY), refuse)]
    cases["fallocate"] = [
        _argument(1),
        (EQUAL, 2, 0, 0),
        (EQUAL, 1, 0, PUNCH_HOLE),
        _refuse(errno.EOPNOTSUPP),
    ]
    cases["personality"] = [_argument(0), (EQUAL, 2, 0, 0), (EQUAL, 1, 0, 0xFFFFFFFF), refuse]
    cases["prctl"] = [_argument(0), *_any_of(PRCTLS, refuse)]
    return cases


def _sockets(network: bool, abi: int, asked: bool) -> dict[str, Code]:
    """What is done with the calls that make and connect sockets; nothing where there is to be network."""
    if network:
        return {"socket": [], "socketpair": [], "connect": []}
    ask = (RETURN, 0, 0, ASK) if asked else _refuse(errno.EACCES)
    return {
        "socket": _unix_only(SOCK_STREAM),
        "socketpair": _unix_only(SOCK_STREAM, SOCK_SEQPACKET),
        "connect": [ask]
        if abi < 9
        else [],  # from version 9 on Landlock restricts connecting to socket files
    }


def _refuse(error: int) -> Instruction:
    """Let the call fail with this errno."""
    return RETURN, 0, 0, ERRNO | error


def _argument(index: int) -> Instruction:
    """Load the low word of an argument, counted from 0."""
    return LOAD, 0, 0, 16 + 8 * index


def _any_of(values: tuple[int, ...], then: Instruction) -> Code:
    """Do `then` if the loaded word is one of these values."""
    last = len(values) - 1
    tests: Code = [(EQUAL, last - i, int(i == last), value) for i, value in enumerate(values)]
    return [*tests, then]


def _case(number: int, then: Code) -> Code:
    """Do `then` if the call has this number, and allow the call if `then` does not return."""
    return [(EQUAL, 0, len(then) + 1, number), *then, (RETURN, 0, 0, ALLOW)]


def _unix_only(*types: int) -> Code:
    """Refuse sockets that are not Unix sockets of one of these types.

    Datagram sockets must not be among them: they can send to any socket file without connect().
    """
    wanted: Code = [(EQUAL, len(types) - i, 0, kind) for i, kind in enumerate(types)]
    return [
        _argument(0), (EQUAL, 1, 0, AF_UNIX), _refuse(errno.EACCES),
        _argument(1), (AND, 0, 0, 0xF), *wanted, _refuse(errno.EACCES),
    ]  # fmt: skip

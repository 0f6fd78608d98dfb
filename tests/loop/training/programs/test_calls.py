"""The filter of system calls is well formed; tests/hostile shows what it stops."""

from __future__ import annotations

import errno
import struct

import pytest

from loop.training.programs import calls


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("network", [True, False])
def test_the_filter_is_a_program_whose_jumps_stay_inside(machine: str, network: bool) -> None:
    code = calls.program(machine, network, 7)
    steps = list(struct.iter_unpack("HBBI", code))
    assert len(steps) < 4096
    for i, (_, yes, no, _) in enumerate(steps[:-1]):
        assert i + 1 + max(yes, no) < len(steps)
    assert steps[-1] == (calls.RETURN, 0, 0, calls.ALLOW)


def run(code: bytes, machine: str, number: int, *arguments: int) -> int:
    """What the filter returns for a call, as the kernel would evaluate it."""
    steps = list(struct.iter_unpack("HBBI", code))
    data = struct.pack("IIQ6Q", number, calls.ARCH[machine], 0, *[*arguments, *[0] * 6][:6])
    at, word = 0, 0
    while True:
        what, yes, no, operand = steps[at]
        at += 1
        if what == calls.RETURN:
            return int(operand)
        if what == calls.LOAD:
            word = int(struct.unpack_from("I", data, operand)[0])
        elif what == calls.AND:
            word &= operand
        else:
            holds = {
                calls.EQUAL: word == operand,
                calls.AT_LEAST: word >= operand,
                calls.ANY: bool(word & operand),
            }[what]
            at += yes if holds else no


REFUSED, NOTHING, MISSING = calls.ERRNO | errno.EPERM, calls.ERRNO, calls.ERRNO | errno.ENOSYS
UNKNOWN = calls.ERRNO | errno.EOPNOTSUPP


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("mount", (), REFUSED),
        ("openat", (0, 0, 0, 0o4755), calls.ALLOW),  # it makes no file: the mode means nothing
        ("openat", (0, 0, 0x40, 0o644), calls.ALLOW),
        ("openat", (0, 0, 0x40, 0o4755), REFUSED),
        ("openat", (0, 0, 0x410000, 0o2755), REFUSED),
        ("mknodat", (0, 0, 0o100644), calls.ALLOW),
        ("mknodat", (0, 0, 0o104755), REFUSED),
        ("fchmod", (3, 0o600), NOTHING),
        ("fchmod", (3, 0o4755), REFUSED),
        ("fchmodat2", (0, 0, 0o2755), REFUSED),
        ("utimensat", (), NOTHING),
        ("prlimit64", (0, 7), calls.ALLOW),
        ("prlimit64", (123, 7), REFUSED),
        ("setpriority", (0, 0, 5), calls.ALLOW),
        ("setpriority", (0, 123, 5), REFUSED),
        ("setpriority", (2, 0, 5), REFUSED),
        ("ioprio_set", (1, 0, 5), calls.ALLOW),
        ("ioprio_set", (1, 123, 5), REFUSED),
        ("sched_setaffinity", (0,), calls.ALLOW),
        ("sched_setaffinity", (123,), NOTHING),
        ("clone", (17,), calls.ALLOW),
        ("clone", (0x10000000 | 17,), REFUSED),
        ("ioctl", (0, 0x5413), calls.ALLOW),
        ("ioctl", (0, 0x5412), REFUSED),
        ("ioctl", (0, 0x40047602), REFUSED),
        ("ioctl", (0, 0x40086602), UNKNOWN),  # FS_IOC_SETFLAGS
        ("ioctl", (0, 0x40806685), UNKNOWN),  # FS_IOC_ENABLE_VERITY
        ("ioctl", (0, 0x401C5820), UNKNOWN),  # FS_IOC_FSSETXATTR
        ("ioctl", (0, 0x50009401), UNKNOWN),  # BTRFS_IOC_SNAP_CREATE
        ("ioctl", (0, 0xC020462A), calls.ALLOW),  # NVIDIA's, AMD's, KFD's and uvm's
        ("ioctl", (0, 0xC0106407), calls.ALLOW),
        ("ioctl", (0, 0xC0184B01), calls.ALLOW),
        ("ioctl", (0, 0x30000001), calls.ALLOW),
        ("ioctl", (0, 0x5421), calls.ALLOW),
        ("fcntl", (0, 3), calls.ALLOW),
        ("fcntl", (0, 1024), REFUSED),
        ("fcntl", (0, 1026), REFUSED),
        ("fallocate", (1, 0), calls.ALLOW),
        ("fallocate", (1, 3), calls.ALLOW),
        ("fallocate", (1, 1), UNKNOWN),
        ("personality", (0xFFFFFFFF,), calls.ALLOW),
        ("personality", (0x40000,), REFUSED),
        ("prctl", (15,), calls.ALLOW),
        ("prctl", (4,), REFUSED),
        ("socket", (1, 1), calls.ALLOW),
        ("socket", (1, 2), calls.ERRNO | errno.EACCES),
        ("socket", (2, 1), calls.ERRNO | errno.EACCES),
        ("connect", (), calls.ERRNO | errno.EACCES),
    ],
)
def test_each_call_gets_its_answer(machine: str, name: str, arguments: tuple[int, ...], answer: int) -> None:
    number = {**calls.CALLS[machine], **calls.EVERYWHERE}[name]
    assert run(calls.program(machine, False, 7), machine, number, *arguments) == answer


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_is_newer_than_the_filter_is_missing_and_what_trainings_need_is_not(machine: str) -> None:
    code = calls.program(machine, False, 7)
    for number in (calls.CLONE3, calls.OPENAT2, 470, 0x40000001):
        assert run(code, machine, number) == MISSING
    read, futex = {"x86_64": (0, 202), "aarch64": (63, 98)}[machine]
    assert run(code, machine, read) == run(code, machine, futex) == calls.ALLOW
    for name in ("socket", "connect"):
        assert run(calls.program(machine, True, 7), machine, calls.CALLS[machine][name], 2, 1) == calls.ALLOW

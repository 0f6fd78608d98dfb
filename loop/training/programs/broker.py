"""Lets a fenced trainer connect to its own Unix sockets and to nobody else's. Standard library only.

Before version 9 Landlock does not ask where a socket file lies, and a filter cannot read a path. So the
filter of `sandbox.py` hands each connect() to the supervisor, which looks, and does it for the trainer: to a
socket in a folder that the trainer may write, as data loaders' workers need, and to no other. The system's
bus, a key agent, Docker or the engine stay out of reach.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import threading
from collections.abc import Sequence

RECEIVE, SEND, STILL_THERE = 0xC0502100, 0xC0182101, 0x40082102
"""ioctls of a seccomp listener."""
NOTICE, ANSWER = "QIIiIQ6Q", "QqiI"
PIDFD_GETFD = 438
ADDRESS_BYTES = 110
LIBC = ctypes.CDLL(None, use_errno=True)


def serve(listener: int, folders: Sequence[str]) -> None:
    """Answer in a thread of its own until the last trainer process is gone: whatever a trainer makes it wait
    for, the supervisor's watch goes on."""
    inside = [os.path.realpath(folder) + "/" for folder in folders]
    threading.Thread(target=_serve, args=(listener, inside), daemon=True).start()


def _serve(listener: int, inside: list[str]) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while poll.poll()[0][1] & select.POLLIN:
        notice = bytearray(struct.calcsize(NOTICE))
        try:
            fcntl.ioctl(listener, RECEIVE, notice)
        except OSError:
            continue  # whoever asked is gone
        identity, pid, _, _, _, _, fd, address, size, *_ = struct.unpack(NOTICE, notice)
        error = _connect(listener, identity, pid, fd & 0xFFFFFFFF, address, size & 0xFFFFFFFF, inside)
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, SEND, struct.pack(ANSWER, identity, 0, -error, 0))


def _connect(
    listener: int, identity: int, pid: int, fd: int, address: int, size: int, inside: list[str]
) -> int:
    """Connect file `fd` of a trainer's thread `pid`; returns an errno, 0 when it worked."""
    opened: list[int] = []
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        opened.append(memory)
        given = os.pread(memory, min(size, ADDRESS_BYTES), address)
        fcntl.ioctl(listener, STILL_THERE, struct.pack("Q", identity))
        path = given[2:].split(b"\0")[0]
        if given[:2] != struct.pack("H", socket.AF_UNIX) or not path:
            return 13  # EACCES
        target = os.open(os.path.join(f"/proc/{pid}/cwd".encode(), path), os.O_PATH | os.O_CLOEXEC)
        opened.append(target)
        # What was looked at is what is connected to, however the path is changed meanwhile.
        if not os.readlink(f"/proc/self/fd/{target}").startswith(tuple(inside)):
            return 13
        with _taken(pid, fd) as theirs:
            theirs.connect(f"/proc/self/fd/{target}")
        return 0
    except OSError as error:
        return error.errno or 13
    finally:
        for number in opened:
            os.close(number)


def _taken(pid: int, fd: int) -> socket.socket:
    """The trainer's own socket, in our hands too."""
    with open(f"/proc/{pid}/status") as status:
        process = next(int(line.split()[1]) for line in status if line.startswith("Tgid:"))
    handle = os.pidfd_open(process)
    try:
        ours = LIBC.syscall(PIDFD_GETFD, handle, fd, 0)
        if ours < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(handle)
    return socket.socket(fileno=ours)

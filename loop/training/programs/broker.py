"""Connects a fenced trainer to its own Unix sockets, and to nobody else's. Standard library only.

A trainer needs Unix sockets between its own processes, as data loaders' workers do. But a socket file can
also belong to the system's bus, a key agent, Docker or the engine. Landlock restricts connecting to socket
files from its version 9 on; before, only seccomp can, and a seccomp filter cannot read the path in a call's
arguments. So the filter of `sandbox.py` passes each connect() to the supervisor (seccomp_unotify(2)). The
supervisor reads the path and makes the connection for the trainer if the socket is in a folder that the
trainer may write, and refuses it otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import threading
from collections.abc import Sequence
from typing import NamedTuple

RECEIVE, SEND, STILL_THERE = 0xC0502100, 0xC0182101, 0x40082102
"""ioctls of a seccomp listener: SECCOMP_IOCTL_NOTIF_RECV, _SEND and _ID_VALID in linux/seccomp.h."""
NOTICE, ANSWER = "QIIiIQ6Q", "QqiI"
"""struct seccomp_notif and struct seccomp_notif_resp of that file, as formats of Python's struct module."""
PIDFD_GETFD = 438
"""Number of this system call, which is the same on all machines."""
ADDRESS_BYTES = 110
"""Size of struct sockaddr_un: no address of a Unix socket is longer."""
LIBC = ctypes.CDLL(None, use_errno=True)


class Call(NamedTuple):
    """A call of connect() that waits for its answer."""

    identity: int
    """Number of the call."""
    pid: int
    """The trainer's thread that made it."""
    fd: int
    """The socket's file descriptor in that thread."""
    address: int
    """Where in the trainer's memory the address to connect to is."""
    size: int
    """Bytes of that address."""


def serve(listener: int, folders: Sequence[str]) -> None:
    """Answer the calls that arrive at `listener` until the last process of the trainer is gone.

    Sockets in `folders` may be connected to. In a thread, so that a slow connect never delays time-outs.
    """
    inside = [os.path.realpath(folder) + "/" for folder in folders]
    threading.Thread(target=_serve, args=(listener, inside), daemon=True).start()


def _serve(listener: int, inside: list[str]) -> None:
    """Answer calls until the listener hangs up."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while poll.poll()[0][1] & select.POLLIN:
        notice = bytearray(struct.calcsize(NOTICE))
        try:
            fcntl.ioctl(listener, RECEIVE, notice)
        except OSError:
            continue  # the process that called is gone
        identity, pid, _, _, _, _, fd, address, size, *_ = struct.unpack(NOTICE, notice)
        call = Call(identity, pid, fd & 0xFFFFFFFF, address, size & 0xFFFFFFFF)
        error = _connect(listener, call, inside)
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, SEND, struct.pack(ANSWER, identity, 0, -error, 0))


def _connect(listener: int, call: Call, inside: list[str]) -> int:
    """Connect the trainer's socket if its address is in a folder of `inside`, whose names end in `/`.

    Returns an errno; 0 when it is connected.
    """
    opened: list[int] = []
    try:
        memory = os.open(f"/proc/{call.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        opened.append(memory)
        given = os.pread(memory, min(call.size, ADDRESS_BYTES), call.address)
        # Raises OSError when the caller is gone: then its pid may belong to another process already.
        fcntl.ioctl(listener, STILL_THERE, struct.pack("Q", call.identity))
        path = given[2:].split(b"\0")[0]
        if given[:2] != struct.pack("H", socket.AF_UNIX) or not path:
            return errno.EACCES
        target = os.open(os.path.join(f"/proc/{call.pid}/cwd".encode(), path), os.O_PATH | os.O_CLOEXEC)
        opened.append(target)
        # The opened file is checked and connected to, so it does not help to change the path in between.
        if not os.readlink(f"/proc/self/fd/{target}").startswith(tuple(inside)):
            return errno.EACCES
        with _taken(call.pid, call.fd) as theirs:
            theirs.connect(f"/proc/self/fd/{target}")
        return 0
    except OSError as error:
        return error.errno or errno.EACCES
    finally:
        for number in opened:
            os.close(number)


def _taken(pid: int, fd: int) -> socket.socket:
    """The trainer's socket `fd`, opened in this process too."""
    # A pidfd is opened by the process, not by one of its threads.
    with open(f"/proc/{pid}/status", errors="replace") as status:
        process = next(int(line.split()[1]) for line in status if line.startswith("Tgid:"))
    handle = os.pidfd_open(process)
    try:
        ours = LIBC.syscall(PIDFD_GETFD, handle, fd, 0)
        if ours < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(handle)
    try:
        return socket.socket(fileno=ours)
    except OSError:  # it is no socket: kept open, such files would use up all that this process may open
        os.close(ours)
        raise

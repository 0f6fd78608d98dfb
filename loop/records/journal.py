"""The journal of a run: a file of durable events, one JSON object a line.

Each event is on disk before its side effect begins, so that a restart can go on from the step under way.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from loop import events as ev
from loop.errors import UNREADABLE, JournalError
from loop.records import older_format

T = TypeVar("T")

LINE_MOST = 2**26
"""Bytes that a line may have: a candidate's source and a training's log have far less."""


class Journal:
    """A journal that is open for appending. Only the engine that holds `engine.lock` opens it."""

    def __init__(self, path: Path, seq: int) -> None:
        self.path = path
        self.seq = seq
        """Number of the last record."""
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @classmethod
    def open(cls, path: Path, take: Callable[[ev.Record], object] = lambda record: None) -> Journal:
        """Open a journal, or create it; a torn last line is cut off. `take` gets its records one by one.

        A long journal is not kept in memory. Raises `JournalError` when a line cannot be understood.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        repair(path)
        seq = 0
        with _no_collection():
            for record in _read(path):
                take(record)
                seq = record.seq
        return cls(path, seq)

    def append(self, event: ev.DurableEvent) -> ev.Record:
        """Give the event the next number and write it; on return it survives a power cut.

        Raises OSError, for example when the disk is full; a line that was written in part is cut off before.
        """
        record = ev.Record(self.seq + 1, time.time(), event)
        line = ev.encode(record) + b"\n"
        start = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, "No space left on device", str(self.path))
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, start)
            raise
        self.seq = record.seq
        return record

    def close(self) -> None:
        os.close(self._fd)


def repair(path: Path) -> int:
    """Cut off a last line without a newline: its writer was killed. Returns how many bytes were cut off.

    Raises `JournalError` when it is no plain file.
    """
    if not os.path.lexists(path):
        return 0
    try:
        file = open(path, "r+b", opener=_plain)  # noqa: SIM115 - closed just below
    except OSError as error:
        raise JournalError(f"{path} is no plain file that can be read ({error.strerror})") from error
    with file:
        size = file.seek(0, os.SEEK_END)
        reach, tail = 65536, b""
        while b"\n" not in tail and len(tail) < size:
            if reach > 2 * LINE_MOST:
                raise JournalError(f"{path} is no journal: its last line is longer than any record")
            file.seek(max(0, size - reach))
            tail, reach = file.read(), 2 * reach
        torn = len(tail) - tail.rfind(b"\n") - 1
        if torn:
            file.truncate(size - torn)
            os.fsync(file.fileno())
    return torn


def read(path: Path) -> list[ev.Record]:
    """The records of a journal, without a torn last line; none when there is no file. Writes nothing.

    Raises `JournalError` when a line cannot be understood, or when records are missing.
    """
    with _no_collection():
        return list(_read(path))


def decode(line: bytes) -> ev.Record:
    """The record in a journal line, whether this version wrote it or an older one.

    Raises an error of `UNREADABLE` when neither did.
    """
    try:
        record = ev.decode_record(line)
    except msgspec.ValidationError:
        return ev.decode_record(older_format.upgraded(line))
    if older_format.may_be_older(record, line):
        return ev.decode_record(older_format.upgraded(line))
    return record


def stream(path: Path, kind: type[T]) -> Iterator[T]:
    """The objects of type `kind` in a file of JSON lines, such as a transcript.

    Lines that do not decode, such as a torn last one, are left out; a missing file has no objects.
    """
    with contextlib.suppress(OSError), open(path, "rb", opener=_plain) as file:
        for line in _lines(file):
            with contextlib.suppress(*UNREADABLE):
                yield msgspec.json.decode(line, type=kind)


class Tail:
    """Reads a file of JSON lines while another process writes it."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def lines(self) -> list[bytes]:
        """The lines completed since the last call, of at most `LINE_MOST` bytes together; none while
        there is no file.

        A file that has become shorter is read from its beginning; what is longer than any line is left out.
        """
        with contextlib.suppress(OSError), open(self._path, "rb", opener=_plain) as file:
            if file.seek(0, os.SEEK_END) < self._offset:
                self._offset = 0
            file.seek(self._offset)
            data = file.read(LINE_MOST)
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole) or (len(data) if len(data) == LINE_MOST else 0)
            return whole.splitlines()  # JSON has no other ends of lines in it
        return []


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Switch the garbage collector off: its searches take longer than reading a long journal.

    What is decoded is kept, so there is hardly any garbage to find.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _read(path: Path) -> Iterator[ev.Record]:
    """The records of a journal one by one. Raises `JournalError` where one cannot be understood."""
    if os.path.lexists(path):
        try:
            file = open(path, "rb", opener=_plain)  # noqa: SIM115 - closed just below
        except OSError as error:
            raise JournalError(f"{path} is no plain file that can be read ({error.strerror})") from error
        with file:
            yield from _checked(path, _lines(file))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; one that is longer than any record ends it, cut off."""
    while line := file.readline(LINE_MOST):
        yield line
        if len(line) == LINE_MOST:
            return


def _plain(path: str, flags: int) -> int:
    """An `opener` that opens plain files alone, and waits for no pipe. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is something else")
    return descriptor


def _checked(path: Path, lines: Iterable[bytes]) -> Iterator[ev.Record]:
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            record = decode(line)
        except UNREADABLE as error:
            raise JournalError(
                f"{path}, line {number} is not a journal record ({error}); "
                "it was written by another version or edited: move it away or start another --tag"
            ) from error
        if isinstance(record.event, ev.RunCreated) and record.event.format > ev.FORMAT:
            raise JournalError(
                f"{path} has format {record.event.format}: update autoresearch-tui to continue it"
            )
        if record.seq != number:
            raise JournalError(
                f"{path}, line {number} has number {record.seq}: records are missing before it"
            )
        yield record

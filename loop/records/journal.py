"""The journal of a run: a file of durable events, one JSON object a line.

Each event is on disk before its side effect begins, so that a restart can go on from the step under way.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from loop import events as ev
from loop.errors import JournalError
from loop.records import older_format

T = TypeVar("T")


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
    """Cut off a last line without a newline: its writer was killed. Returns how many bytes were cut off."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        size = start = file.seek(0, os.SEEK_END)
        tail = b""
        while start and b"\n" not in tail:
            before, start = start, max(0, start - 65536)
            file.seek(start)
            tail = file.read(before - start) + tail
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

    Raises `msgspec.DecodeError` when neither did.
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
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                yield msgspec.json.decode(line, type=kind)


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
    if path.exists():
        with path.open("rb") as file:
            yield from _checked(path, file)


def _checked(path: Path, lines: Iterable[bytes]) -> Iterator[ev.Record]:
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            record = decode(line)
        except msgspec.DecodeError as error:
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

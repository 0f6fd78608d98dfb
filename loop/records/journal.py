"""The journal of a run: a file of durable events, one JSON object a line; older ones are sealed (sealed.py).

Each event is on disk before its side effect begins, so that a restart can go on from the step under way.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from loop import events as ev
from loop.errors import UNREADABLE, JournalError
from loop.paths import owner_only
from loop.records import older_format, sealed
from loop.records.sealed import LINE_MOST, bounded

T = TypeVar("T")

SEAL_AT = 2**20
"""Bytes from which the records of the journal's own file are sealed: about two days of research. It takes
hundredths of a second."""


class Journal:
    """A journal that is open for appending. Only the engine that holds `engine.lock` opens it."""

    def __init__(self, path: Path, seq: int) -> None:
        self.path = path
        self.seq = seq
        """Number of the last record."""
        self._fd = self._opened()
        self._seal_at = SEAL_AT

    @classmethod
    def open(cls, path: Path, take: Callable[[ev.Record], object] = lambda record: None) -> Journal:
        """Open a journal, or create it; a torn last line is cut off. `take` gets its records one by one.

        A long journal is not kept in memory. Raises `JournalError` when a line cannot be understood.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        repair(path)
        sealed.undo(path)
        seq = 0
        with _no_collection():
            for record in each(path):
                take(record)
                seq = record.seq
        opened = cls(path, seq)
        if path.stat().st_size >= SEAL_AT:  # an older version left it; nobody waits for an append yet
            opened._seal()
        return opened

    def append(self, event: ev.DurableEvent) -> ev.Record:
        """Give the event the next number and write it; on return it survives a power cut.

        Raises OSError, for example when the disk is full; a line that was written in part is cut off before.
        """
        if os.fstat(self._fd).st_size >= self._seal_at:
            self._seal()
        start = os.fstat(self._fd).st_size
        record = ev.Record(self.seq + 1, time.time(), event)
        line = ev.encode(record) + b"\n"
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

    def _seal(self) -> None:
        """Seal what is in the journal's own file. When the disk refuses, that is tried again much later.

        Raises OSError when the file cannot be opened anew: then it must not be written to.
        """
        with contextlib.suppress(OSError):
            sealed.seal(self.path)
        fd = self._opened()
        os.close(self._fd)
        self._fd = fd
        self._seal_at = os.fstat(fd).st_size + SEAL_AT

    def _opened(self) -> int:
        return owner_only(str(self.path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def repair(path: Path) -> int:
    """Cut off a last line without a newline: its writer was killed. Returns how many bytes were cut off.

    Raises `JournalError` when it is no plain file.
    """
    if not os.path.lexists(path):
        return 0
    try:
        file = open(path, "r+b", opener=owner_only)  # noqa: SIM115 - closed just below
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
        return list(each(path))


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
    with contextlib.suppress(OSError), open(path, "rb", opener=owner_only) as file:
        for line in bounded(file):
            with contextlib.suppress(*UNREADABLE):
                yield msgspec.json.decode(line, type=kind)


class Tail:
    """Reads a file of JSON lines while another process writes it."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._file = path, 0, (0, 0)

    def lines(self) -> list[bytes]:
        """The lines completed since the last call, of at most `LINE_MOST` bytes together; none while
        there is no file.

        A file that has become shorter, or that is another one, is read from its beginning; what is longer
        than any line is left out.
        """
        with contextlib.suppress(OSError), open(self._path, "rb", opener=owner_only) as file:
            found = os.fstat(file.fileno())
            if found.st_size < self._offset or (found.st_dev, found.st_ino) != self._file:
                self._offset, self._file = 0, (found.st_dev, found.st_ino)
            file.seek(self._offset)
            data = file.read(min(LINE_MOST, found.st_size - self._offset))
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole) or (len(data) if len(data) == LINE_MOST else 0)
            return whole.splitlines()  # JSON has no other ends of lines in it
        return []


class Follow:
    """Reads a journal while the engine writes it."""

    def __init__(self, path: Path) -> None:
        self._path, self._tail, self._parts, self._last = path, Tail(path), list[Path](), 0

    def lines(self) -> Iterator[bytes]:
        """The lines completed since the last call, also those that were sealed meanwhile. Take all of them.

        Raises `JournalError` when what was sealed cannot be read.
        """
        newest = self._tail.lines()  # before the parts: what is sealed in between is met twice, never missed
        found = sealed.parts(self._path)
        if found != self._parts:
            for _, line in itertools.islice(sealed.lines(self._path), self._last, None):
                self._last += 1
                yield line.rstrip(b"\n")
            self._parts = found
        first = sealed.number(newest[0]) if newest else None
        if first is not None and first <= self._last:  # these were sealed just now
            newest = newest[self._last + 1 - first :]
        self._last += len(newest)
        yield from newest


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


def each(path: Path) -> Iterator[ev.Record]:
    """The records of a journal one by one. Raises `JournalError` where one cannot be understood."""
    with contextlib.ExitStack() as stack:
        newest: Iterable[tuple[Path, bytes]] = ()
        if os.path.lexists(
            path
        ):  # opened first: what is sealed meanwhile is met twice then, and never missed
            try:
                file = stack.enter_context(open(path, "rb", opener=owner_only))
            except OSError as error:
                raise JournalError(f"{path} is no plain file that can be read ({error.strerror})") from error
            newest = ((path, line) for line in bounded(file))
        last = 0
        for record in _checked(sealed.lines(path), 0):
            yield record
            last = record.seq
        yield from _checked(newest, last)


def _checked(lines: Iterable[tuple[Path, bytes]], known: int) -> Iterator[ev.Record]:
    """The records in lines of the files beside them. Those up to number `known` were met before: they may
    come first, and are left out."""
    last, row, at = known, 0, None
    for path, line in lines:
        row, at = row + 1 if path == at else 1, path
        if not line.endswith(b"\n"):
            return
        try:
            record = decode(line)
        except UNREADABLE as error:
            raise JournalError(
                f"{path}, line {row} is not a journal record ({error}); "
                "it was written by another version or edited: move it away or start another --tag"
            ) from error
        if isinstance(record.event, ev.RunCreated) and record.event.format > ev.FORMAT:
            raise JournalError(
                f"{path} has format {record.event.format}: update autoresearch-tui to continue it"
            )
        if 0 < record.seq <= known == last:
            continue
        if record.seq != last + 1:
            raise JournalError(f"{path}, line {row} has number {record.seq}: records are missing before it")
        last = record.seq
        yield record

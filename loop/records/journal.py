"""The journal: what happened, one JSON object a line, durable before it takes effect."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from loop import events as ev
from loop.errors import JournalError

T = TypeVar("T")


class Journal:
    """An append-only file of durable records. One engine at a time holds it open (see `engine.lock`)."""

    def __init__(self, path: Path, records: list[ev.Record]) -> None:
        self.path = path
        self.records = records
        self.seq = records[-1].seq if records else 0
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Open or create, repairing a torn tail. Raises `JournalError` when a line cannot be understood."""
        path.parent.mkdir(parents=True, exist_ok=True)
        repair(path)
        return cls(path, read(path))

    def append(self, event: ev.DurableEvent) -> ev.Record:
        """Number the event and make it durable; on return it survives a power cut.

        A line that could only be written in part (disk full) is cut off again before OSError is raised.
        """
        record = ev.Record(self.seq + 1, time.time(), event)
        line = ev.encode(record) + b"\n"
        start = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(28, "No space left on device", str(self.path))
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, start)
            raise
        self.seq = record.seq
        return record

    def close(self) -> None:
        os.close(self._fd)


def repair(path: Path) -> int:
    """Cut what follows the last newline: a line that a kill tore. Returns how many bytes went."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    keep = data.rfind(b"\n") + 1
    if keep < len(data):
        with path.open("r+b") as file:
            file.truncate(keep)
            os.fsync(file.fileno())
    return len(data) - keep


def read(path: Path) -> list[ev.Record]:
    """All whole records of a journal; a torn last line is left out. Never writes."""
    if not path.exists():
        return []
    with _no_collection():
        return _read(path)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Records are no garbage: looking for some while they pile up takes longer than reading them."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def stream(path: Path, kind: type[T]) -> Iterator[T]:
    """The objects of a file that is only appended to, one a line; what is torn or missing is left out."""
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                yield msgspec.json.decode(line, type=kind)


def _read(path: Path) -> list[ev.Record]:
    records: list[ev.Record] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            record = ev.decode_record(line)
        except msgspec.DecodeError as error:
            raise JournalError(
                f"{path}, line {number} is not a journal record ({error}); "
                "it was written by another version or edited: move it away or start another --tag"
            ) from error
        if isinstance(record.event, ev.RunCreated) and record.event.format > ev.FORMAT:
            raise JournalError(
                f"{path} has format {record.event.format}: update autoresearch-tui to continue it"
            )
        if record.seq != len(records) + 1:
            raise JournalError(
                f"{path}, line {number} has number {record.seq}: records are missing before it"
            )
        records.append(record)
    return records

"""The older records of a long journal: sealed, which is compressed and never changed again.

    journal.jsonl                  the newest records; the engine appends to it
    journal.000000001.jsonl.gz     older ones, named after the number of the first (`zcat` prints them)

So the journal of thirty days is two megabytes instead of fourteen, and nothing is left out of it. At any
moment of a seal each record is in one of the files, or in two.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import gzip
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from loop.errors import UNREADABLE, JournalError
from loop.paths import owner_only, write_whole

LINE_MOST = 2**26
"""Bytes that a line may have: a candidate's source and a training's log have far less."""

LEVEL = 6
"""How hard to compress: a megabyte in hundredths of a second, to a seventh."""


class _Numbered(msgspec.Struct):
    """What each record has, of whatever version."""

    seq: int


def number(line: bytes) -> int | None:
    """The number of the record in a line; None when it has none."""
    with contextlib.suppress(*UNREADABLE):
        return msgspec.json.decode(line, type=_Numbered).seq
    return None


def lines(journal: Path) -> Iterator[tuple[Path, bytes]]:
    """All sealed lines of a journal in their order, each with the file that it is in.

    Raises `JournalError` when one of the files cannot be read.
    """
    for part in parts(journal):
        try:
            with open(part, "rb", opener=owner_only) as packed, gzip.open(packed) as file:
                for line in bounded(file):
                    yield part, line
        except (
            FileNotFoundError
        ):  # `undo` has just removed it: what follows tells whether something is missing
            continue
        except (OSError, EOFError, zlib.error) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise JournalError(f"cannot read {part} ({said}): put it back, or start another --tag") from error


def parts(journal: Path) -> list[Path]:
    """The files with sealed records of a journal, the oldest first."""
    name = re.compile(rf"{re.escape(journal.stem)}\.\d{{9}}{re.escape(journal.suffix)}\.gz")
    found = journal.parent.glob(f"{glob.escape(journal.stem)}.*.gz")
    return sorted(part for part in found if name.fullmatch(part.name))


def seal(journal: Path) -> None:
    """Seal all records of the journal's own file, which is empty then: whoever has it open opens it anew.

    Raises OSError; whatever was done by then, no record is lost. Only the engine calls this.
    """
    with open(journal, "rb", opener=owner_only) as file:
        first = number(file.readline(LINE_MOST))
        if first is None:
            raise OSError(errno.EINVAL, "its first line has no number", str(journal))
        file.seek(0)
        part = journal.with_name(f"{journal.stem}.{first:09d}{journal.suffix}.gz")
        write_whole(part, _packed(file), durable=True)
    try:
        _sync(journal.parent)  # else a power cut could leave the second step without the first
        write_whole(journal, b"", durable=True)
    except OSError:
        undo(journal)
        raise
    _sync(journal.parent)


def undo(journal: Path) -> None:
    """Remove a part whose records are still in the journal's own file: its seal was interrupted.

    Only the engine calls this. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError), open(journal, "rb", opener=owner_only) as file:
        first, found = number(file.readline(LINE_MOST)), parts(journal)
        if first is not None and found and int(found[-1].name.split(".")[1]) >= first:
            found[-1].unlink()


def bounded(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """The lines of a file; one that is longer than any record ends it, cut off."""
    while line := file.readline(LINE_MOST):
        yield line
        if len(line) == LINE_MOST:
            return


def _packed(file: IO[bytes]) -> Iterator[bytes]:
    """What is in a file, compressed, in pieces: a journal that an older version left may be long."""
    packer = zlib.compressobj(LEVEL, wbits=31)  # 31: with the header and the checksum of gzip
    while piece := file.read(2**20):
        yield packer.compress(piece)
    yield packer.flush()


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""results.tsv: five columns, exactly autoresearch's, shared with whatever other tool writes there.

    commit	val_bpb	memory_gb	status	description

Rows that are there stay as they are, byte for byte. Writing is atomic.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from loop.paths import HOME

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("commit", "val_bpb", "memory_gb", "status", "description")
HEADER = "\t".join(COLUMNS)


def lines(path: Path) -> list[str]:
    """The file's lines, header included; empty when there is no file. Odd bytes survive a round trip."""
    if not path.exists():
        return []
    return path.read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")


def append(path: Path, row: str, copies: int) -> bool:
    """Add `row` unless more than `copies` lines like it are there already; True when it was added.

    `copies` is what `lines(path).count(row)` was before the row was first due: so a row is written once
    even if the writer was killed after the rename and before it could say so.
    """
    with _alone(path) as folder:
        present = lines(path)
        if present.count(row) > copies:
            return False
        if not any(present):
            present = [HEADER]
        _replace(path, "\n".join([*present, row]) + "\n", folder)
        return True


def change(path: Path, row: str, new_row: str) -> bool:
    """Replace the last line equal to `row` (a verdict changed by hand); False when there is none."""
    with _alone(path) as folder:
        present = lines(path)
        if row not in present:
            return False
        index = len(present) - 1 - present[::-1].index(row)
        present[index] = new_row
        _replace(path, "\n".join(present) + "\n", folder)
        return True


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """Keep other runs' engines off the file; gives the folder for drafts, hidden from `git status`."""
    folder = path.parent / HOME
    folder.mkdir(exist_ok=True)
    with (folder / "results.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(errno.EAGAIN, "locked by another process", lock.name) from error
        beside = path.resolve().parent
        yield folder if folder.stat().st_dev == beside.stat().st_dev else beside


def _replace(path: Path, text: str, folder: Path) -> None:
    path = path.resolve()  # the user may keep it elsewhere, behind a link
    temporary = folder / f".{path.name}.draft"
    try:
        with temporary.open("wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> pl.DataFrame:
    """All rows as a table: five columns of fixed types; a crash's `val_bpb` is null.

    The schema is given, not inferred: inference reads commit `12e4567` as a number.
    """
    import polars as pl

    if not path.exists() or path.stat().st_size == 0:
        return pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String)).with_columns(
            pl.col("val_bpb", "memory_gb").cast(pl.Float64)
        )
    frame = pl.read_csv(
        path,
        separator="\t",
        quote_char=None,
        schema=dict.fromkeys(COLUMNS, pl.String),
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
    )
    frame = frame.filter(pl.col("commit").is_not_null() & pl.col("status").is_not_null())
    number = pl.col("val_bpb").cast(pl.Float64, strict=False)
    return frame.with_columns(
        pl.when(pl.col("status") != "crash").then(number).alias("val_bpb"),
        pl.col("memory_gb").cast(pl.Float64, strict=False),
        pl.col("description").fill_null(""),
    )

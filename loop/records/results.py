"""results.tsv: the table of verdicts, in autoresearch's five columns, shared with whatever else writes there.

    commit	val_bpb	memory_gb	status	description

Lines that are there stay as they are, byte for byte. Each change replaces the file as a whole, so that no
reader sees half of one. `loop.experiment.format_row` makes the rows of a run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from loop import events as ev
from loop.paths import HOME, owner_only, table
from loop.records.shaped_file import read_shaped
from loop.text import clean

if TYPE_CHECKING:
    import polars as pl


class Row(NamedTuple):
    """One experiment in results.tsv, whoever wrote it."""

    commit: str
    """Mostly the first 7 characters of a commit; autoresearch writes `baseline` for its first row."""
    val_bpb: float | None
    """The metric; None for a crash, where the column holds no finite number, and for a discard with 0.000000:
    that is how a training is written which was stopped before it had a number."""
    memory_gb: float | None
    """Peak memory; None where the column holds no finite number."""
    status: ev.Status
    description: str


MOST = 256 * 2**20
"""Bytes that results.tsv may have: a million rows have half as many."""
COLUMNS = Row._fields
HEADER = "\t".join(COLUMNS)
STATUSES: dict[str, ev.Status] = {status: status for status in get_args(ev.Status)}


def parse(line: str) -> Row | None:
    """The row in a line; None for the header, a torn line and everything else that is not a row.

    Columns after the fifth are left out.
    """
    cells = line.rstrip("\r\n").split("\t")
    if len(cells) < len(COLUMNS) or (status := STATUSES.get(cells[3])) is None:
        return None
    value = None if status == "crash" else _number(cells[1])
    if status == "discard" and value == 0:
        value = None
    return Row(cells[0], value, _number(cells[2]), status, cells[4])


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def lines(path: Path) -> list[str]:
    """The file's lines, header included; empty when there is no file.

    Bytes that are not UTF-8 become lone surrogates, so that `append` and `change` can write them back. Raises
    OSError when it is no plain file of this repository that can be read.
    """
    found = text(path)
    return found.removesuffix("\n").split("\n") if found is not None else []


def count(text: str | None, row: str) -> int:
    """How many lines of the file's `text` are equal to `row`.

    A list of all lines would be megabytes in small pieces, after each training of a long run.
    """
    return sum(1 for _ in re.finditer(f"^{re.escape(row)}$", text or "", re.MULTILINE))


def text(path: Path) -> str | None:
    """What is in the file, as in `lines`; None when there is none. Raises OSError like `lines`."""
    if not os.path.lexists(path):
        return None
    content = read_shaped(_real(path), MOST)
    if content is None:
        raise OSError(errno.EINVAL, f"no plain file of at most {MOST >> 20} MB that can be read", str(path))
    return content.decode("utf-8", "surrogateescape")


def _real(path: Path) -> Path:
    """Where the file lies. Raises OSError when it is a link that leads elsewhere."""
    if real := table(path):
        return real
    raise OSError(errno.ELOOP, "it is a link that leads to no .tsv file of the repository", str(path))


def readable(line: str) -> str:
    """A line of `lines` as text that is safe to show and to send: U+FFFD stands for what is not UTF-8."""
    return clean(line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")).replace("\n", " ")


def read(path: Path) -> pl.DataFrame:
    """All rows as a table with the columns of `Row`. What is missing there is null here."""
    import polars as pl  # here, as it takes long to load and the engine does without

    schema = {
        "commit": pl.String,
        "val_bpb": pl.Float64,
        "memory_gb": pl.Float64,
        "status": pl.String,
        "description": pl.String,
    }
    rows = [row for line in lines(path) if (row := parse(readable(line)))]
    return pl.DataFrame(rows, schema, orient="row")


def append(path: Path, row: str, copies: int) -> bool:
    """Add the line `row`, unless more than `copies` lines like it are there; True when it was added.

    `copies` is their `count` before the verdict was journaled. So a row is written once, even if the writer
    is killed after it has replaced the file and before that is journaled.
    """
    with _locked(path) as folder:
        present = text(path) or ""
        if count(present, row) > copies:
            return False
        above = present.removesuffix("\n") if present.strip("\n") else HEADER
        _replace(path, f"{above}\n{row}\n", folder)
        return True


def change(path: Path, row: str, new_row: str, copies: int) -> int:
    """Replace a line equal to `row` by `new_row`, unless no more than `copies` lines like it are there.

    `copies` is how many of them are not ours: so a change is made once, even if the writer is killed after it
    has replaced the file and before that is journaled. Returns the same number for `new_row`. A row changes
    when a human changes its verdict, and when one more training moves its mean.
    """
    with _locked(path) as folder:
        present = lines(path)
        if present.count(row) > copies:
            index = len(present) - 1 - present[::-1].index(row)
            present[index] = new_row
            _replace(path, "\n".join(present) + "\n", folder)
        return max(0, present.count(new_row) - 1)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Hold the lock; yield the folder for the temporary file.

    `git status` does not show that folder. If it is on another file system than results.tsv, the folder of
    results.tsv is taken: only a file of the same file system can replace another in one step. Raises
    BlockingIOError while the engine of another run holds the lock.
    """
    folder = path.parent / HOME
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / "results.lock", "w", opener=owner_only) as lock:
        os.fchmod(lock.fileno(), 0o600)  # whoever can open a file can lock it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(errno.EAGAIN, "locked by another process", lock.name) from error
        beside = _real(path).parent
        yield folder if folder.stat().st_dev == beside.stat().st_dev else beside


def _replace(path: Path, content: str, folder: Path) -> None:
    """Write `content` to a temporary file in `folder`, and replace the file by it in one step.

    Its mode stays as it was.
    """
    path = _real(path)
    draft = folder / f".{path.name}.draft"
    draft.unlink(missing_ok=True)
    try:
        with draft.open("xb") as file:
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(content.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

"""Fills a training's folder on the engine's disk from the folder of its order on another machine.

So follower, early stop, outcome and verdict find what they would find of a training on this machine. The one
file that only trainings elsewhere have is `remote.json` (`Note`): it says whose log is in the folder, and
what else the other machine reported. After a restart the log is appended where it ends here.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from loop.paths import write_whole
from loop.records.training_folder import TrainingFolder
from loop.training.executor import Ended, Job, Lost
from loop.training.remote.order import RESULTS, Report


class Gone(Exception):
    """The other machine, or what worked there on the order, is gone; the message is the reason in words."""


class Refused(Exception):
    """The other machine could not begin, which is not the training's fault; the message says why."""


class News(Struct, frozen=True):
    """What is new of a training."""

    log: bytes
    """What it has printed since the offset that was asked for; not more than can be sent at once."""
    ended: bool
    """The report was there before the log was read."""


class Source(Protocol):
    """Reads the folder of an order on another machine. Its methods raise `Gone`."""

    async def news(self, offset: int) -> News:
        """Wait a while for output after `offset`, or for the end."""
        ...

    async def read(self, name: str, offset: int) -> bytes:
        """Some bytes of a file of the order's folder; empty at its end, and when there is no such file."""
        ...


class Note(Struct, frozen=True):
    """What `remote.json` in a training's folder on the engine's disk holds."""

    key: str
    """Of the attempt that the folder belongs to."""
    start: str
    """Names the start of it: an attempt that was stopped starts anew with the same key."""
    place: str = ""
    """Name of the machine."""
    report: Report | None = None


def begin(job: Job, start: str, place: str) -> None:
    """Empty the training's folder, unless it belongs to this start already."""
    note = read_note(job)
    if note is None or note.start != start:
        job.folder.reset()
        write_whole(_path(job.folder), msgspec.json.encode(Note(job.key, start, place)), durable=True)


def read_note(job: Job) -> Note | None:
    """What the folder says of this attempt; None when it says nothing."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        note = msgspec.json.decode(_path(job.folder).read_bytes(), type=Note)
        return note if note.key == job.key else None
    return None


def end_of(job: Job) -> Ended | None:
    """How this attempt ended, if all that it left has been fetched."""
    note = read_note(job)
    whole = note is not None and job.folder.read_exit(job.commit) is not None
    return note.report.ended if note and note.report and whole else None


async def fill(job: Job, source: Source) -> Ended | Lost:
    """Fetch what a training prints and, when it has ended, what it left; exit.json is written last.

    Raises `Gone`, `Refused`, and OSError when the engine's disk cannot be written. It can be cancelled and
    called again.
    """
    ended = False
    with job.folder.log.open("ab") as log:
        while True:
            news = await source.news(log.tell())
            log.write(news.log)
            log.flush()
            if ended and not news.log:
                break
            ended = news.ended
    report = msgspec.json.decode(await _whole(source, "report.json"), type=Report)
    if report.refused:
        raise Refused(report.refused)
    if report.ended is None:
        return report.lost or Lost("it left no result")
    for name, size in report.files.items():
        if name in RESULTS and size <= RESULTS[name]:
            await _fetch(source, name, size, job.folder.folder / name)
    if note := read_note(job):
        note = msgspec.structs.replace(note, report=report)
        write_whole(_path(job.folder), msgspec.json.encode(note), durable=True)
    write_whole(job.folder.exit, msgspec.json.encode(report.ended.exit), durable=True)
    return report.ended


async def _fetch(source: Source, name: str, size: int, target: Path) -> None:
    """Copy one file of the training, unless it has been copied already: a file here is whole."""
    if target.exists() and target.stat().st_size == size:
        return
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp")
    with temporary.open("wb") as file:
        while file.tell() < size and (part := await source.read(f"training/{name}", file.tell())):
            file.write(part)
    temporary.replace(target)


async def _whole(source: Source, name: str) -> bytes:
    found = b""
    while part := await source.read(name, len(found)):
        found += part
    return found


def _path(folder: TrainingFolder) -> Path:
    return folder.folder / "remote.json"

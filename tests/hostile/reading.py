"""Puts hostile things in the place of every file that is read, and reads it.

    python -m tests.hostile.reading FOLDER

prints as JSON what went wrong. It is a program, because it takes itself the memory that a careless reader
needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from loop.agents.acp.scratch import Scratch
from loop.errors import JournalError, UsageError
from loop.paths import RunPaths, newest
from loop.proposing import conversation
from loop.records import archive, foreign_files, foreign_results, journal, results
from loop.records.shaped_file import copy_shaped, read_shaped, size_of_shaped
from loop.records.training_folder import TrainingFolder, read_curve
from loop.service import attach, launch
from loop.tracking.follow import read_note
from loop.training import compile_cache, supervisor
from loop.training.programs import leftovers, usage
from tests.loop.training.jobs import make_job

Reader = Callable[[Path], object]
EXPECTED = (UsageError, JournalError, OSError)
"""Errors with a sentence for the user. The engine waits for a disk that raises OSError."""


def _slot(path: Path) -> object:
    """A slot's look at a file whose content should be three bytes."""
    from loop.training import slot

    return slot._same(path, 0o100644, b"abc")


def _scratch(path: Path) -> object:
    """A look at what a CLI agent has left in its directory."""
    scratch = Scratch.__new__(Scratch)
    scratch.folder, scratch.path, scratch._before = path.parent, "train.py", {}
    return scratch.proposal(), scratch.strays()


READERS: dict[str, Reader] = {
    "exit.json": lambda path: TrainingFolder(path.parent).read_exit("c"),
    "spec.json": lambda path: TrainingFolder(path.parent).read_spec(),
    "decision.json": lambda path: TrainingFolder(path.parent).read_decision("k"),
    "supervisor.json": lambda path: supervisor.find(TrainingFolder(path.parent)),
    "run.log": lambda path: TrainingFolder(path.parent).end_of_log(),
    "judge.log": lambda path: TrainingFolder(path.parent).end_of_judge_log(),
    "judged.json": lambda path: _judged(path),
    "model.pt": lambda path: (size_of_shaped(path, 2**30), copy_shaped(path, 2**20, path.parent / "copy")),
    "metrics.jsonl": read_curve,
    "transcript.jsonl": archive.read_transcript,
    "notes.md": conversation._read,
    "journal.jsonl": lambda path: (journal.repair(path), journal.read(path)),
    "engine.json": lambda path: _info(path),
    "flags.json": launch.read_flags,
    "autoresearch.toml": foreign_files.toml,
    "program.md": lambda path: foreign_files.program(path.parent, path.name),
    "results.tsv": results.lines,
    "train.py": lambda path: read_shaped(path, 2**20),
    "slot": _slot,
    "proposal.md": _scratch,
    "cache": lambda path: compile_cache._copy(path.parent, path.parent.parent / "copied"),
    "counted": lambda path: usage.on_disk([str(path.parent)]),
    "removed": lambda path: leftovers.remove(path),
    "growing.jsonl": lambda path: [journal.Tail(path).lines() for _ in range(2)],
    "sent-wandb.json": read_note,
    "theirs.tsv": foreign_results.read,
    "tags": lambda path: _newest(path),
    "first": lambda path: _first(path),
}
"""Readers of outside files, by the name of the file that they read."""


def _judged(path: Path) -> object:
    files = TrainingFolder(path.parent)
    files.judged = path
    return files.read_judged()


def _info(path: Path) -> object:
    paths = RunPaths(path.parent, "t")
    paths.info = path
    return attach.info(paths)


def _first(path: Path) -> object:
    paths = RunPaths(path.parent, "t")
    paths.compiled = path.parent
    return compile_cache._first(paths)


def _newest(path: Path) -> object:
    home = path.parent / ".autoresearch/t"
    home.mkdir(parents=True)
    path.rename(home / "journal.jsonl")
    return newest(path.parent, None)


def _deep(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    for name in (path.name, *["d" * 50] * 300):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(40 * 2**30)


def _bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path may not be long
        listener.bind(path.name)
        os.chdir(here)


def _odd_names(path: Path) -> None:
    path.mkdir()
    for name in (b"two\nlines", b"\x1b]0;owned\x07", b"\xff\xfe", b"-rf", b"x" * 255):
        (path / os.fsdecode(name)).touch()


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a sparse file": _sparse,
    "deep folders": _deep,
    "a folder with odd names": _odd_names,
    "a loop of links": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link outside": lambda path: path.symlink_to("/etc/passwd"),
    "a device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
    "a socket": _bound,
    "a line of 32 MB": lambda path: path.write_bytes(b"x" * 2**25),
    "zeros": lambda path: path.write_bytes(bytes(100_000)),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00\xd8" * 1000),
    "brackets": lambda path: path.write_bytes(b"[" * 1_000_000),
    "closed": lambda path: path.touch(0),
    "a closed folder": lambda path: path.mkdir(0),
}


def tried(folder: Path, name: str, kind: str) -> str:
    """What went wrong when a reader met this kind of thing; empty when nothing did."""
    place = folder / f"{name}-{kind}"
    place.mkdir()
    path = place / ("journal.jsonl" if name == "tags" else name)
    try:
        KINDS[kind](path)
    except PermissionError:
        return ""  # only root may make a device
    signal.alarm(20)
    try:
        READERS[name](path)
    except EXPECTED as error:
        return "" if "\n" not in str(error) else f"{name}, {kind}: more than a line: {error}"
    except BaseException as error:
        return f"{name}, {kind}: {error!r}"
    finally:
        signal.alarm(0)
        with contextlib.suppress(OSError):
            leftovers.remove(place)
    return ""


class Hangs(BaseException):
    """A reader takes too long."""


def raise_hangs(*_: object) -> None:
    raise Hangs


if __name__ == "__main__":
    make_job(Path(sys.argv[1]))  # loads what the readers need before memory is limited
    signal.signal(signal.SIGALRM, raise_hangs)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
    wrong = [tried(Path(sys.argv[1]), name, kind) for name in READERS for kind in KINDS]
    print(json.dumps([words for words in wrong if words]))

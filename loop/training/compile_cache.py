"""What compilers keep between trainings: made for each commit before its clock starts, and for no other one.

A cold compilation takes a minute and more on a GPU, so compilers keep what they make. But what a candidate's
code has written must reach no later candidate: it could hold weights, or a program. So each commit has a
cache of its own. A *dry run* fills it: some steps on random tokens, from which nothing can be learnt. It
begins with a copy of the first commit's cache, which is the unchanged code's. Each training gets a private
copy, which is gone with it.

Where no judge measures, nothing is proved anyway: there all trainings share one cache, as autoresearch does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path

import msgspec

from loop.config import Settings
from loop.paths import RunPaths, write_whole
from loop.records.shaped_file import copy_shaped, read_shaped
from loop.records.training_folder import Spec, TrainingFolder
from loop.training import supervisor
from loop.training.programs.leftovers import remove
from loop.training.supervisor import Standby

STEPS = 6
"""Steps of a dry run: those that the budget clock leaves out, and as many more."""
TIMEOUT_S = 600.0
"""How long a dry run may take."""
MOST = 2 * 2**30
"""Bytes of a cache that are kept; a larger one is given up."""
FILES, DEEP = 50_000, 20
"""How many files it may have, and how many folders may lie in each other."""
NEWEST = 4
"""How many caches are kept besides the first commit's and one for each seat."""
DRIVER = Path("/proc/driver/nvidia/version")
FIRST = "first"
"""File in the folder of caches that names the commit whose cache all others begin with."""


def is_private(settings: Settings) -> bool:
    """Whether each training has a cache of its own."""
    return bool(settings.judge_command)


def needs_dry_run(settings: Settings, paths: RunPaths, commit: str) -> bool:
    """Whether the commit has to run on random tokens before it trains."""
    pays = settings.dry_run == "on" or (settings.dry_run == "auto" and DRIVER.exists())
    return pays and is_private(settings) and not (paths.compiled / commit).exists()


def private(scratch: Path) -> Path:
    """Where a training that owns `scratch` has its compilers' cache."""
    return scratch / "compiled"


def give(paths: RunPaths, commit: str, scratch: Path) -> None:
    """Copy the commit's cache, or else the first commit's, to where a training will look for it."""
    for name in filter(None, (commit, _first(paths))):
        if (source := paths.compiled / name).is_dir():
            with contextlib.suppress(OSError):  # without it the training compiles anew
                _copy(source, private(scratch))
            return


async def dry_run(
    paths: RunPaths, commit: str, training: Spec, data: Path, scratch: Path, lock: Path, seats: int = 1
) -> None:
    """Fill the cache of a commit: run it as `training` says, but for some steps and on random tokens.

    `data` is the folder of prepared data, which has random tokens of the same shape in its folder `stub`;
    what else is in there stays closed. `scratch` is the training's own folder, `lock` its seat's, which is
    one of so many `seats`. A dry run that fails leaves an empty cache: the training itself will show why.
    Raises OSError.
    """
    files = TrainingFolder(paths.folder / "dry-runs" / lock.stem)
    standby = Standby(lock)  # with a lease the run depends on this object
    living = standby.start(files, _spec(training, files, data, scratch))
    try:
        await supervisor.ended(living)
    except asyncio.CancelledError:
        await supervisor.stop(files, living)
        raise
    await asyncio.to_thread(take, paths, commit, scratch, NEWEST + seats)


def _spec(training: Spec, files: TrainingFolder, data: Path, scratch: Path) -> Spec:
    """What the supervisor is told: the training's own specification with stub data and no judge."""
    open_ = [str(data / name) for name in ("stub", "chosen", "folders.json")]
    variables = {
        "AUTORESEARCH_STUB": "1",
        "AUTORESEARCH_MAX_STEPS": str(STEPS),
        "AUTORESEARCH_MODEL_FILE": str(scratch / "model.pt"),
    }
    return msgspec.structs.replace(
        training,
        env={**training.env, **variables},
        fence=msgspec.structs.replace(
            training.fence, read=[path for path in training.fence.read if path != str(data)] + open_
        ),
        log=str(files.log),
        exit=str(files.exit),
        supervisor=str(files.supervisor),
        timeout_s=TIMEOUT_S,
        commit="",
        trained="",
        judge=None,
        remove=[],
    )


def take(paths: RunPaths, commit: str, scratch: Path, newest: int = NEWEST) -> None:
    """Move what a dry run has compiled out of every candidate's reach; keep the `newest` such caches."""
    target = paths.compiled / commit
    target.mkdir(parents=True, exist_ok=True)
    if not _copy(private(scratch), target):
        remove(target)
        target.mkdir()
    os.utime(target)
    if not _first(paths):
        remove(paths.compiled / FIRST)  # what a candidate has put there may be a folder
        write_whole(paths.compiled / FIRST, commit.encode())
    _thin(paths, newest)


def _copy(source: Path, target: Path) -> bool:
    """Copy the plain files of a folder that a candidate could shape; False when they are too many.

    At most `MOST` bytes in `FILES` files, `DEEP` folders deep. Links, pipes and the like are left out. Raises
    OSError when `target` cannot be written.
    """
    left, files, waiting = MOST, 0, [(source, target, 0)]
    while waiting:
        folder, copy, depth = waiting.pop()
        copy.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), copy / entry.name, depth + 1))
                elif copy_shaped(Path(entry.path), left, copy / entry.name):
                    left -= (copy / entry.name).stat().st_size
                    files += 1
                elif entry.is_file(follow_symlinks=False):
                    return False
                if files > FILES or depth > DEEP:
                    return False
    return True


def _first(paths: RunPaths) -> str:
    """The first commit. Candidates could write to the folder if this run had no judge before."""
    found = (read_shaped(paths.compiled / FIRST, 100) or b"").decode("utf-8", "replace")
    return found if re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", found) else ""  # SHA-1 or SHA-256


def _thin(paths: RunPaths, newest: int) -> None:
    """Delete all caches but the first commit's and the newest ones."""
    caches = [path for path in paths.compiled.iterdir() if path.is_dir() and path.name != _first(paths)]
    caches.sort(key=lambda path: os.lstat(path).st_mtime)
    for path in caches[:-newest]:
        with contextlib.suppress(OSError):
            remove(path)

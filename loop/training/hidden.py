"""Finds the files that hold held-out text: no trainer may read them, whatever else the fence opens.

What a model is measured on must be new to it. nanogpt/prepare.py keeps the held-out tokens and its downloads
in one folder, and lists in `sources.json` where else on this machine the same text lies: in files of an
installed package, or in a folder of the user's. Other copies of such a package are looked for here.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from loop.errors import UNREADABLE

HELD_OUT = "held-out"
"""The folder for held-out text in the cache folder (nanogpt/prepare.py)."""
PACKAGE_FOLDERS = (
    "python*/*-packages", "lib*/python*/*-packages", "*/lib*/python*/*-packages",
    "versions/*/lib/python*/*-packages", "versions/*/envs/*/lib/python*/*-packages",  # pyenv
    "tools/*/lib/python*/*-packages", "python/*/lib/python*/*-packages",  # uv
    "envs/*/lib/python*/*-packages", "*/envs/*/lib/python*/*-packages",  # conda
    "pkgs/*/*-packages", "*/pkgs/*/*-packages", "*/pkgs/*/lib/python*/*-packages",
)  # fmt: skip
"""Where Python packages lie below a folder that trainers may read."""
NO_PACKAGES = ("/proc", "/sys")


def held_out(cache: Path, readable: Iterable[str]) -> list[str]:
    """The files and folders with held-out text of the data that is prepared in `cache`, free of links.

    `readable` are the folders that trainers may read; copies of a package are looked for below them. Not all
    of the paths need to exist.
    """
    older = [cache / "hub", *(path.parent for path in cache.glob("*/val.npy"))]  # as format 4 had them
    sources = {path for file in cache.glob(f"{HELD_OUT}/*/sources.json") for path in _sources(file)}
    sources |= {copy for path in sources for copy in _copies(path, tuple(readable))}
    compiled = {path.parent / "__pycache__" for path in sources if path.suffix == ".py"}
    return sorted({os.path.realpath(path) for path in {cache / HELD_OUT, *older, *sources, *compiled}})


def covers(hide: Iterable[str], path: Path) -> bool:
    """Whether `path` is one of the hidden paths or lies below one of them."""
    return any(path.resolve().is_relative_to(hidden) for hidden in hide)


def _sources(file: Path) -> list[Path]:
    with contextlib.suppress(OSError, *UNREADABLE):
        return [Path(name) for name in msgspec.json.decode(file.read_bytes(), type=list[str])]
    return []


def _copies(path: Path, readable: tuple[str, ...]) -> Iterator[Path]:
    """The same file of the same package in other Pythons and environments."""
    folders = [parent for parent in path.parents if parent.name in ("site-packages", "dist-packages")]
    for folder in _package_folders(readable) if folders else ():
        copy = folder / path.relative_to(folders[0])
        if copy != path and copy.exists():
            yield copy


@functools.cache
def _package_folders(readable: tuple[str, ...]) -> list[Path]:
    """All folders with Python packages in the usual places below these folders."""
    found = {os.path.realpath(name) for name in readable if name.endswith("-packages")}
    for name in set(readable).difference(NO_PACKAGES):
        for pattern in PACKAGE_FOLDERS:
            found |= {os.path.realpath(path) for path in glob.glob(f"{glob.escape(name)}/{pattern}")}
    return [Path(path) for path in sorted(found)]

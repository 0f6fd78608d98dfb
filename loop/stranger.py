"""A repository is a stranger until its user says otherwise.

What a repository's own files would run outside the fence, open in the fence, read or send (`Wish`) does not
count until the user has agreed to it once. What was agreed to is remembered in the user's configuration
folder, where no repository can write: for each repository's folder the hashes of its wishes. A wish that
changes is a new wish.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from loop import config
from loop.errors import UNREADABLE, UsageError, describe
from loop.records.repository import Repository
from loop.text import one_line

SHOWN = 200
"""Characters of a value that are shown."""


class Wish(msgspec.Struct, frozen=True):
    """One setting that a repository asks for and that needs the user's word."""

    name: str
    value: Any

    @property
    def hash(self) -> str:
        return hashlib.sha256(msgspec.json.encode([self.name, self.value])).hexdigest()

    def __str__(self) -> str:
        """What it would do, e.g. ``prepare_command runs `sh get.sh` outside the fence, with network``."""
        shown = " ".join(map(str, self.value)) if isinstance(self.value, list) else f"{self.value}"
        words = config.described()[self.name].risk
        return f"{self.name} {words.replace('{}', one_line(shown, SHOWN))}"


class Wishes(msgspec.Struct, frozen=True):
    """Everything that a repository asks for, and what of it the user has agreed to."""

    root: Path
    every: list[Wish]
    agreed: list[Wish]

    @property
    def open(self) -> list[Wish]:
        """What the user has not agreed to."""
        return [wish for wish in self.every if wish not in self.agreed]

    @property
    def hash(self) -> str:
        """12 hex digits that stand for everything that is open."""
        return hashlib.sha256("".join(wish.hash for wish in self.open).encode()).hexdigest()[:12]

    @property
    def names(self) -> list[str]:
        """The settings that count: `config.load` takes them as `trusted`."""
        return [wish.name for wish in self.agreed]

    def ignored(self) -> str:
        """One line that says what does not count; empty when everything does."""
        names = ", ".join(wish.name for wish in self.open)
        return f"not trusted, so ignored: {names} (of {self.root}; --trust accepts)" if names else ""

    def accepted(self) -> Wishes:
        """The same with everything agreed to."""
        return Wishes(self.root, self.every, self.every)


def wishes(
    repository: Repository,
    commit: str,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    folder: Path | None = None,
) -> Wishes:
    """What a repository asks for beyond what any may have, and what of it `folder` remembers.

    Raises `UsageError` when its settings are wrong.
    """
    every = list(config.described())
    whole = msgspec.structs.asdict(config.load(repository, commit, flags, environ, every))
    mild = msgspec.structs.asdict(config.load(repository, commit, flags, environ))
    beyond = [name for name in every if whole[name] != mild[name] and whole[name] not in ([], "")]
    found = [Wish(name, whole[name]) for name in beyond]
    known = _read(folder or default_folder()).get(str(repository.root), [])
    return Wishes(repository.root, found, [wish for wish in found if wish.hash in known])


def remember(accepted: Wishes, folder: Path | None = None) -> None:
    """Remember that the user has agreed to these wishes; earlier ones of the repository are forgotten.

    Raises `UsageError` when the file cannot be written.
    """
    folder = folder or default_folder()
    known = {**_read(folder), str(accepted.root): [wish.hash for wish in accepted.agreed]}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=folder, delete=False) as file:  # has mode 0600
            file.write(msgspec.json.format(msgspec.json.encode(known), indent=1))
        os.replace(file.name, folder / "trusted.json")
    except OSError as error:
        raise UsageError(describe(error)) from error


def default_folder() -> Path:
    """The user's configuration folder."""
    return platformdirs.user_config_path("autoresearch-tui")


def _read(folder: Path) -> dict[str, list[str]]:
    """Hashes of what was agreed to, by repository; nothing when the file is missing or not one of ours."""
    with contextlib.suppress(OSError, *UNREADABLE):
        return msgspec.json.decode((folder / "trusted.json").read_bytes(), type=dict[str, list[str]])
    return {}

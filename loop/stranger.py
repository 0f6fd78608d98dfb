"""A repository is a stranger until its user says otherwise.

What a repository's own files would run outside the fence, open in the fence, read or send (`Wish`) does not
count until the user has agreed to it once. What was agreed to is remembered in the user's configuration
folder, where no repository can write: for each repository's folder the hashes of its wishes. A wish that
changes is a new wish, and so is one whose command runs files of the repository that have changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from loop import config
from loop.errors import UNREADABLE, UsageError, describe
from loop.paths import write_whole
from loop.records import named_files
from loop.records.repository import Repository
from loop.text import one_line

SHOWN = 2000
"""Characters that a value may have: all of it is shown, as nobody can agree to what he does not see."""
FENCED = ("train_command", "answers_command")
"""Commands that run behind the fence, except for what `uv` does before."""


class Wish(msgspec.Struct, frozen=True):
    """One setting that a repository asks for and that needs the user's word."""

    name: str
    value: Any
    files: tuple[str, ...] = ()
    """Hashes of the files that its command runs (loop/records/named_files.py)."""

    @property
    def hashes(self) -> list[str]:
        """What is remembered of it: a hash, or one for each state of its files."""
        parts = [[self.name, self.value, files] for files in self.files] or [[self.name, self.value]]
        return [hashlib.sha256(msgspec.json.encode(part)).hexdigest() for part in parts]

    @property
    def shown(self) -> str:
        """All of its value on one line; the words of a command in quotes where they hold more than a name."""
        if not isinstance(self.value, list):
            return one_line(f"{self.value}", SHOWN + 1)
        is_command = "`{}`" in config.described()[self.name].risk
        words = [_quoted(word) for word in self.value] if is_command else self.value
        return one_line((" " if is_command else ", ").join(words), SHOWN + 1)

    def __str__(self) -> str:
        """What it would do, e.g. ``prepare_command runs `sh get.sh` outside the fence, with network``."""
        words = config.described()[self.name].risk.replace("{}", self.shown)
        return f"{self.name} {words}{' (with its files as they are now)' if self.files else ''}"


class Wishes(msgspec.Struct, frozen=True):
    """Everything that a repository asks for, and what of it the user has agreed to."""

    root: Path
    every: list[Wish]
    agreed: list[Wish]
    asked_before: bool = False
    """The user has agreed to something of this repository earlier."""

    @property
    def open(self) -> list[Wish]:
        """What the user has not agreed to."""
        return [wish for wish in self.every if wish not in self.agreed]

    @property
    def hash(self) -> str:
        """12 hex digits that stand for everything that is open."""
        hashes = (hash for wish in self.open for hash in wish.hashes)
        return hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]

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
        return Wishes(self.root, self.every, self.every, True)


def wishes(
    repository: Repository,
    commit: str,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    folder: Path | None = None,
) -> Wishes:
    """What a repository asks for beyond what any may have, and what of it `folder` remembers.

    Raises `UsageError` when its settings are wrong, and when one of them is too long to be shown.
    """
    every = list(config.described())
    whole = msgspec.structs.asdict(config.load(repository, commit, flags, environ, every))
    mild = msgspec.structs.asdict(config.load(repository, commit, flags, environ))
    beyond = [name for name in every if whole[name] != mild[name] and whole[name] not in ([], "")]
    path = whole["editable"][0]
    found = [Wish(name, whole[name], _files(repository, commit, name, whole[name], path)) for name in beyond]
    if long := next((wish.name for wish in found if len(wish.shown) > SHOWN), ""):
        raise UsageError(f"`{long}` in {config.CONFIG} has more than {SHOWN:,} characters: make it shorter")
    known = {*_read(folder or default_folder()).get(str(repository.root), [])}
    return Wishes(
        repository.root, found, [wish for wish in found if known.issuperset(wish.hashes)], bool(known)
    )


def _files(repository: Repository, commit: str, name: str, value: Any, editable: str) -> tuple[str, ...]:
    """Hashes of the files of the repository that a setting runs outside the fence."""
    command = [value] if isinstance(value, str) else value
    runs = "`{}`" in config.described()[name].risk and isinstance(command, list)
    if not runs or (name in FENCED and Path(command[0]).name != "uv"):
        return ()
    return tuple(named_files.hashes(repository, commit, command, editable))


def _quoted(word: str) -> str:
    """A word of a command as a shell would take it; `{python}` stays as it is."""
    return word if re.fullmatch(r"[\w@%+=:,./{}-]+", word, re.ASCII) else shlex.quote(word)


def remember(accepted: Wishes, folder: Path | None = None) -> None:
    """Remember that the user has agreed to these wishes; earlier ones of the repository are forgotten.

    Raises `UsageError` when the file cannot be written.
    """
    folder = folder or default_folder()
    known = {**_read(folder), str(accepted.root): [h for wish in accepted.agreed for h in wish.hashes]}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(folder / "trusted.json", msgspec.json.format(msgspec.json.encode(known), indent=1))
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

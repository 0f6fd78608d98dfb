"""The user's theme and layout, kept in the user's configuration folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
from platformdirs import user_config_path


class Settings(msgspec.Struct):
    """What the cockpit remembers from one time to the next."""

    theme: str = "cockpit-dark"
    split: bool = False
    """The diff stands in two columns."""
    wrap: bool = False
    """Long lines of the diff are wrapped."""
    oldest_first: bool = False
    """The table of results begins with the oldest experiment."""


def default_folder() -> Path:
    return user_config_path("autoresearch-tui")


def load(folder: Path) -> Settings:
    """Read the settings; the defaults when there is no file or it cannot be read."""
    try:
        return msgspec.json.decode((folder / "cockpit.json").read_bytes(), type=Settings)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        return Settings()


def save(settings: Settings, folder: Path) -> None:
    """Write the settings, if that is possible: a read-only home directory must not end the cockpit."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cockpit.json").write_bytes(msgspec.json.encode(settings))

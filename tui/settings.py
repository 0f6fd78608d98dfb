"""What the cockpit remembers of its user: theme and layout, in the user's configuration folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
from platformdirs import user_config_path


class Settings(msgspec.Struct):
    theme: str = "cockpit-dark"
    split: bool = False
    """Diff in two columns."""
    wrap: bool = False
    """Long lines of the diff are wrapped."""
    oldest_first: bool = False


def default_folder() -> Path:
    return user_config_path("autoresearch-tui")


def load(folder: Path) -> Settings:
    """Settings of last time; the defaults when there are none or they make no sense."""
    try:
        return msgspec.json.decode((folder / "cockpit.json").read_bytes(), type=Settings)
    except (OSError, msgspec.MsgspecError):
        return Settings()


def save(settings: Settings, folder: Path) -> None:
    """Best effort: a read-only home directory must not end the cockpit."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cockpit.json").write_bytes(msgspec.json.encode(settings))

"""The user's theme, layout, keys and status line: `cockpit.json` in the user's configuration folder."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec
from platformdirs import user_config_path


class Settings(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What the cockpit remembers from one time to the next, and what the user wrote into the file by hand."""

    theme: str = "cockpit-dark"
    split: bool = False
    """The diff stands in two columns."""
    wrap: bool = False
    """Long lines of the diff are wrapped."""
    oldest_first: bool = False
    """The table of results begins with the oldest experiment."""
    keys: dict[str, str] = {}
    """By hand: other keys for actions, by the ids of `tui.actions`; an empty text takes the key away."""
    status_line: list[str] = []
    """By hand: the fields of the status line in their order (`tui.panels.status`); empty for all."""


NAME = "cockpit.json"


def default_folder() -> Path:
    return user_config_path("autoresearch-tui")


def load(folder: Path) -> tuple[Settings, str]:
    """The settings, and what is wrong with their file. Without one that can be read they are the defaults."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Settings), ""
    except FileNotFoundError:
        return Settings(), ""
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        return Settings(), f"{folder / NAME}: {error}; the defaults are used, the file is left as it is"


def save(settings: Settings, folder: Path) -> None:
    """Write the settings; what the user wrote by hand meanwhile stays.

    A file that cannot be read is left as it is, and a read-only home directory must not end the cockpit.
    """
    written, trouble = load(folder)
    if trouble:
        return
    merged = msgspec.structs.replace(settings, keys=written.keys, status_line=written.status_line)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(folder / NAME, msgspec.json.format(msgspec.json.encode(merged)) + b"\n")


def _write_whole(file: Path, content: bytes) -> None:
    """Replace a file in one step, so that a full disk leaves what was there before. Raises OSError."""
    file = file.resolve()  # where the file is a link, as in a folder of dotfiles, it stays one
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
        try:
            draft.write(content)
            draft.flush()
            os.replace(draft.name, file)
        except OSError:
            os.unlink(draft.name)
            raise

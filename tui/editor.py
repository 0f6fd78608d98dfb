"""Candidates in the human's own editor: the screen steps aside and comes back."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from loop.client import ConnectionLost, Refused
from loop.events import Edit

if TYPE_CHECKING:
    from tui.keys import Keys


async def edit(app: Keys, n: int) -> None:
    """Open experiment `n`'s file; what was saved is sent when it differs, and the engine checks it."""
    await _open(app, n, send=True)


async def look(app: Keys, n: int) -> None:
    """Open a copy of experiment `n`'s file to read; what is changed in it is forgotten."""
    await _open(app, n, send=False)


async def _open(app: Keys, n: int, *, send: bool) -> None:
    connection = app.connection
    if connection is None:
        return
    try:
        detail = await connection.experiment(n)
        with app.suspend():
            text = run_editor(detail.after, Path(detail.path).suffix)
        if send:
            app.toast("nothing changed" if text == detail.after else await connection.send(Edit(n, text)))
    except (Refused, ConnectionLost, OSError, ValueError, SuspendNotSupported) as error:
        app.toast(f"not {'edited' if send else 'shown'}: {error}", "warning")


def run_editor(text: str, suffix: str) -> str:
    """Hand `text` to $VISUAL, $EDITOR or vi; returns what was saved. Raises ValueError when it fails."""
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="autoresearch-") as folder:
        path = Path(folder) / f"candidate{suffix}"
        path.write_text(text)
        code = subprocess.call([*command, str(path)])
        if code:
            raise ValueError(f"{command[0]} ended with code {code}")
        return path.read_text()

"""Opens an experiment's file in the human's own editor; meanwhile the cockpit leaves the terminal to it."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from textual.app import App, SuspendNotSupported

from loop.client import ConnectionLost, Refused
from loop.events import Edit
from tui.link import Link


async def edit(app: App[object], link: Link, n: int) -> None:
    """Let the human edit experiment `n`'s file; a changed file is sent to the engine, which checks it."""
    await _open(app, link, n, send=True)


async def look(app: App[object], link: Link, n: int) -> None:
    """Show experiment `n`'s file in the editor. It is a copy: changes to it are dropped."""
    await _open(app, link, n, send=False)


async def _open(app: App[object], link: Link, n: int, *, send: bool) -> None:
    try:
        detail = await link.connection.experiment(n)
        with app.suspend():
            text = run_editor(detail.after, Path(detail.path).suffix)
        if send:
            same = text == detail.after
            link.toast("nothing changed" if same else await link.connection.send(Edit(n, text)))
    except (Refused, ConnectionLost, OSError, ValueError, SuspendNotSupported) as error:
        link.toast(f"not {'edited' if send else 'shown'}: {error}", "warning")


def run_editor(text: str, suffix: str) -> str:
    """Open `text` in $VISUAL, $EDITOR or vi and return what was saved. `suffix` ends the file's name.

    Raises ValueError when the editor ends with an error, OSError when it cannot be started.
    """
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="autoresearch-") as folder:
        path = Path(folder) / f"candidate{suffix}"
        path.write_text(text)
        code = subprocess.call([*command, str(path)])
        if code:
            raise ValueError(f"{command[0]} ended with code {code}")
        return path.read_text()

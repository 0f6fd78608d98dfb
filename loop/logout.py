"""systemd can be set to kill what a user leaves behind at log-out: say so before someone loses a night."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDERS = ("/usr/lib/systemd", "/run/systemd", "/etc/systemd")
"""The later ones win, as do files in their logind.conf.d over logind.conf."""
LINGER = Path("/var/lib/systemd/linger")


def warning(
    environ: Mapping[str, str], folders: Iterable[str] = FOLDERS, linger: Path = LINGER
) -> str | None:
    """What to do about it; None where nothing is killed, or where it has been done."""
    if not _kills(folders):
        return None
    safe = "INVOCATION_ID" in environ and (linger / environ.get("USER", "")).is_file()
    if safe or environ.get("USER") == "root":  # logind spares root unless told otherwise
        return None
    return (
        "this system ends your processes at log-out; to keep the engine, run `loginctl enable-linger` once "
        "and start with `systemd-run --user --scope autoresearch-tui`"
    )


def _kills(folders: Iterable[str]) -> bool:
    """The last word on KillUserProcesses; distributions set it to no where nothing is said."""
    said = "no"
    for name in ("logind.conf", "logind.conf.d/*.conf"):
        for folder in folders:
            for path in sorted(Path(folder).glob(name)):
                if path.is_file():
                    text = path.read_text("utf-8", "replace")
                    found = re.findall(r"^[ \t]*KillUserProcesses[ \t]*=[ \t]*(\S+)", text, re.MULTILINE)
                    said = found[-1] if found else said
    return said.lower() in ("yes", "true", "on", "1")

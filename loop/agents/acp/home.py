"""The private folder of one start of a CLI agent: a home folder and a folder for temporary files.

In the private home, links lead to what is the agent's own in the user's: its login and its settings. Whatever
else it leaves in a home or among temporary files goes with the folder. Files that lie in the home folder
itself are copied: an agent may not make new ones there, and it replaces them by new ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from loop.agents.acp.known import Cli
from loop.training.programs import leftovers

DEEP = 6
"""So many folders deep in an agent's own folder its sessions are looked for."""
XDG = {
    ".config": "XDG_CONFIG_HOME",
    ".cache": "XDG_CACHE_HOME",
    ".local/share": "XDG_DATA_HOME",
    ".local/state": "XDG_STATE_HOME",
}
CODEX_SETTINGS = """\
default_permissions = "autoresearch"

{own}
[permissions.autoresearch.filesystem]
":minimal" = "read"
":workspace_roots" = "read"
{programs}
"""
"""Settings for Codex' own sandbox: commands may read the system and the scratch folder, change nothing and
use no network. Its own program lies somewhere else, and has to be read too."""


class Home:
    """The private folder `folder` of one start of the agent `cli`."""

    def __init__(self, folder: Path, cli: Cli, environ: Mapping[str, str]) -> None:
        """Make it. Reads and copies files: call it in a thread."""
        self.folder, self._cli = folder, cli
        self._true_home = Path(environ.get("HOME") or Path.home())
        self._environ = environ
        self.home, self.temporary = folder / "home", folder / "tmp"
        for made in (folder, self.home, self.temporary):
            made.mkdir(mode=0o700)
        self.kept = [*self._linked(), *self._moved()]
        """Folders of the user that the agent may change."""
        self.environment = self._variables()

    def _linked(self) -> Iterator[Path]:
        """Link or copy what is the agent's own into the private home."""
        for name in (*self._cli.state, *(("Library",) if sys.platform == "darwin" else ())):
            true, private = self._true(name), self.home / name
            private.parent.mkdir(parents=True, exist_ok=True)
            if true.is_dir():
                private.symlink_to(true.resolve())
                yield true.resolve()
            elif true.is_file():
                shutil.copy2(true, private)

    def _true(self, name: str) -> Path:
        """Where a path of the home folder really is: a variable may have moved its first part."""
        for place, variable in XDG.items():
            if name.startswith(f"{place}/") and (moved := self._environ.get(variable)):
                return Path(moved) / name.removeprefix(f"{place}/")
        return self._true_home / name

    def _moved(self) -> Iterator[Path]:
        for variable in self._cli.moved:
            if (place := self._environ.get(variable)) and Path(place).is_dir():
                yield Path(place).resolve()

    def _variables(self) -> dict[str, str]:
        settings = {k: v.replace("{private}", str(self.folder)) for k, v in self._cli.settings.items()}
        return {"HOME": str(self.home), "TMPDIR": str(self.temporary), **settings}

    def give_codex_its_own(self, programs: list[str] | None) -> None:
        """Make a CODEX_HOME for Codex, with the user's login and settings, and a sandbox set up for it.

        `programs` are folders that its sandbox has to read so that it works; None: leave its sandbox alone.
        """
        true = Path(self._environ.get("CODEX_HOME") or self._true_home / ".codex")
        private = self.folder / "codex"
        private.mkdir()
        if (true / "auth.json").is_file():  # Codex writes a new token through the link
            (private / "auth.json").symlink_to((true / "auth.json").resolve())
        own = (true / "config.toml").read_text("utf-8") if (true / "config.toml").is_file() else ""
        if programs is not None:
            own = re.sub(r"(?m)^\s*(default_permissions|sandbox_mode|approval_policy)\s*=.*$", "", own)
            rights = "\n".join(f'"{folder}" = "read"' for folder in programs)
            own = CODEX_SETTINGS.format(own=own, programs=rights)
        (private / "config.toml").write_text(own, "utf-8")
        self.environment["CODEX_HOME"] = str(private)

    def close(self, *names: str) -> None:
        """Delete the private folder, and in the agent's own folders what is called after its session.

        `names` are the session's id and the name of the folder that it worked in.
        """
        remove(self.folder)
        wanted = {_plain(name) for name in names if name}
        for folder in self.kept:
            _forget(folder, wanted, DEEP)


def _plain(name: str) -> str:
    """A name as agents write it in the names of files: they replace what is not a letter or a digit."""
    return re.sub(r"[^A-Za-z0-9]", "-", name)


def _forget(folder: Path, wanted: set[str], deep: int) -> None:
    """Delete what has one of these words in its name."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if any(word in _plain(entry.name) for word in wanted):
                remove(Path(entry.path)) if is_folder else os.unlink(entry.path)
            elif is_folder and deep:
                _forget(Path(entry.path), wanted, deep - 1)


def remove(folder: Path) -> None:
    """Delete a folder, whatever an agent has made of it. A failure is passed over."""
    with contextlib.suppress(OSError):
        leftovers.remove(folder)

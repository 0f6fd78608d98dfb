"""The fence around a CLI agent: which files it gets. `programs/sandbox.py` denies everything else.

It may change its scratch folder, its private folder and what is its own in the user's home, and read the
system and its own program. It reads nothing else: not the repository, no `.autoresearch`, no other keys. It
opens no terminal: those under /dev/pts are the user's. The network is open, because it has to reach its
vendor.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from loop.records.training_folder import Fence
from loop.training.programs import fenced, machine

Setting = Literal["auto", "off"]
"""Values of the setting `agent_sandbox`: as much of the fence as the kernel can do, or none."""

READ = (*machine.SYSTEM_FILES, *machine.NETWORK_FILES, "/etc/ssl", "/etc/bash.bashrc", "/etc/profile")
"""What programs read to run, and to reach a host."""
CERTIFICATES = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR")


def possible() -> bool:
    """Whether files can be kept from an agent here, truncation included (version 3)."""
    return machine.measures()["landlock"] >= 3


def around(command: list[str], write: Iterable[Path], environ: Mapping[str, str]) -> list[str]:
    """The command that starts `command` behind the fence. It may change what lies in `write`."""
    certificates = [environ[name] for name in CERTIFICATES if name in environ]
    fence = Fence(
        on=True,
        landlock=machine.measures()["landlock"],
        seccomp=bool(machine.measures()["seccomp"]),
        network=True,
        read=[*READ, *programs(command, environ), *certificates],
        write=[str(folder) for folder in write],
        devices=[f"/dev/{name}" for name in machine.DEVICES],
    )
    start = [sys.executable, "-I", "-S", str(Path(fenced.__file__))]
    return [*start, json.dumps(msgspec.to_builtins(fence)), *command]


def programs(command: list[str], environ: Mapping[str, str]) -> list[str]:
    """Folders of the agent's program and of Node, with the packages that they come with."""
    found = [shutil.which(word, path=environ.get("PATH")) for word in (command[0], "node")]
    paths = {Path(path) for path in found if path}
    return sorted({str(place) for path in paths for place in _install(path.resolve())})


def _install(program: Path) -> Iterable[Path]:
    """The folder that a program is installed in: all packages of npm that lie beside it, or its prefix."""
    yield program
    packages = next((above for above in program.parents if above.name == "node_modules"), None)
    if packages:
        yield packages
    elif program.parent.name == "bin" and program.parents[1] != Path.home():
        yield program.parents[1]

"""What this machine offers to a fence: what its kernel can do, and which files any program reads to run.

Shared by the fences around trainers and around CLI agents. Standard library only.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

SYSTEM_FILES = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store", "/sys", "/proc",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/localtime",
    "/etc/timezone", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/alternatives",
    "/etc/os-release", "/etc/mime.types",
)  # fmt: skip
"""What programs and libraries read."""
NETWORK_FILES = (
    "/etc/hosts", "/etc/resolv.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
    "/etc/ssl/certs", "/etc/ca-certificates", "/etc/pki/tls", "/run/systemd/resolve",
)  # fmt: skip
"""What connecting to a host needs."""
DEVICES = ("null", "zero", "full", "random", "urandom")
"""Devices below /dev that any program may use."""


@functools.cache
def measures() -> dict[str, int]:
    """Which measures of sandbox.py the kernel supports, as its `probe` finds in a small process; none of them
    where that cannot be started. Never raises."""
    program = Path(__file__).with_name("sandbox.py")
    try:
        found = subprocess.run(
            [sys.executable, "-I", "-S", str(program)], capture_output=True, timeout=20, check=True
        )
        return {str(name): int(value) for name, value in json.loads(found.stdout).items()}
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError):
        return {"landlock": 0, "seccomp": 0, "memory": 0}

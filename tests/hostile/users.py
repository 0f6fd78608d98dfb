"""Runs a program as an ordinary user, who has no rights but his own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loop.training.programs import group
from loop.training.programs.leftovers import remove
from tests.loop.training.programs.supervising import has_groups, until

ROOT = Path(__file__).parents[2]
NOBODY = 65534
ENTERED = """
if [ -n "$3" ]; then  # a folder above the interpreter that others may not enter is replaced in their view
    mount --bind "$1" "$2" && mount -t tmpfs -o mode=755 none "$3" && mkdir -p "$1" && mount --bind "$2" "$1"
fi || exit 1
id=$4 group=$5; shift 5
[ -z "$group" ] || echo $$ >"$group/cgroup.procs" || exit 1
exec setpriv --reuid $id --regid $id --clear-groups "$@"
"""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder where other users may enter, unlike pytest's own."""
    found = Path(tempfile.mkdtemp(prefix="hostile-", dir="/tmp"))
    try:
        yield found
    finally:
        remove(found)


@contextlib.contextmanager
def handed_down() -> Iterator[Path | None]:
    """A control group in which an ordinary user may make others, as in a session of systemd; None where there
    can be none."""
    found = group.place() if has_groups() else None
    if not found:
        yield None
        return
    made = found.own / f"test-{os.getpid()}"
    made.mkdir()
    try:
        for path in (made, made / "cgroup.procs"):
            os.chown(path, NOBODY, NOBODY)
        yield made
        until(lambda: not (made / "cgroup.procs").read_text())
    finally:
        for inner, _, _ in os.walk(made, topdown=False):
            os.rmdir(inner)


def run_as_nobody(module: str, folder: Path, own: Path | None = None) -> Any:
    """What a module prints as JSON when it runs with the argument `folder`, which is its user's home.

    `own` is the control group that it runs in (`handed_down`).
    """
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    python = Path(sys.base_prefix)
    closed = [str(path) for path in reversed(python.parents) if not path.stat().st_mode & 0o001]
    with tempfile.TemporaryDirectory(dir="/tmp") as spare:
        os.chmod(spare, 0o755)
        os.chown(folder, NOBODY, NOBODY)
        words = [str(python), spare, closed[0] if closed else "", str(NOBODY), str(own or "")]
        found = subprocess.run(
            ["unshare", "--mount", "sh", "-c", ENTERED, "sh", *words,
             sys.executable, "-m", module, str(folder)],
            cwd=ROOT, capture_output=True, text=True, timeout=200,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)

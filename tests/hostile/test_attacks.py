"""A training attacks everything around it, as this user and as an ordinary one: nothing changes outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.training import fence
from tests.hostile import attacked
from tests.hostile.attacks import ATTACKS, HARMLESS, REFUSED

ROOT = Path(__file__).parents[2]
NOBODY = 65534
FULL = fence.detect().landlock >= 6 and fence.detect().seccomp

pytestmark = pytest.mark.skipif(not FULL, reason=f"this machine's fence is {fence.detect()}")


ENTERED = """
if [ -n "$3" ]; then  # a folder above the interpreter that others may not enter is replaced in their view
    mount --bind "$1" "$2" && mount -t tmpfs -o mode=755 none "$3" && mkdir -p "$1" && mount --bind "$2" "$1"
fi || exit 1
id=$4; shift 4
exec setpriv --reuid $id --regid $id --clear-groups "$@"
"""


def by_nobody(folder: Path) -> dict[str, str]:
    """The same attacks by an engine, and so a training, of another user."""
    python = Path(sys.base_prefix)
    closed = [str(path) for path in reversed(python.parents) if not path.stat().st_mode & 0o001]
    with tempfile.TemporaryDirectory() as spare:
        os.chmod(spare, 0o755)
        os.chown(folder, NOBODY, NOBODY)
        words = [str(python), spare, closed[0] if closed else "", str(NOBODY)]
        found = subprocess.run(
            ["unshare", "--mount", "sh", "-c", ENTERED, "sh", *words,
             sys.executable, "-m", "tests.hostile.attacked", str(folder)],
            cwd=ROOT, capture_output=True, text=True, timeout=120,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    assert found.returncode == 0, found.stderr
    answer: dict[str, str] = json.loads(found.stdout)
    return answer


@pytest.fixture(scope="module", params=["this user", "an ordinary user"])
def world(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What became of each attack."""
    folder = Path(tempfile.mkdtemp(prefix="attacks-"))  # where others may enter, unlike pytest's own
    try:
        if request.param == "this user":
            yield attacked.run(folder)
        elif os.getuid() != 0:
            pytest.skip("only root can become another user")
        else:
            yield by_nobody(folder)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(world: dict[str, str], name: str) -> None:
    assert world[name] == "refused"


@pytest.mark.parametrize("name", HARMLESS)
def test_it_is_tried(world: dict[str, str], name: str) -> None:
    assert world[name] in ("done", "refused")


@pytest.mark.parametrize(
    "what", ["its place", "alone", "closed", "precious", "no program of this user", "empty"]
)
def test_nothing_outside_has_changed(world: dict[str, str], what: str) -> None:
    assert world[f"still {what}"] == "True"


def test_the_training_itself_ended_well(world: dict[str, str]) -> None:
    assert world["ended"] == "finished "


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) > 80

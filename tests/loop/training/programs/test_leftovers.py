"""What a training leaves is gone after it, whatever state it is in; what belongs to others stays."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.training.programs import leftovers


@contextlib.contextmanager
def ordinary_user(folder: str) -> Iterator[None]:
    """Do without root's right to open any folder; `folder` belongs to that user."""
    me, user = os.geteuid(), 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(folder, user, -1)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(me)


def test_folders_that_nobody_may_open_are_removed() -> None:
    with tempfile.TemporaryDirectory() as folder, ordinary_user(folder):
        left = Path(folder) / "left"
        (left / "a/b/c").mkdir(parents=True)
        for path in (left / "a/b/c", left / "a/b", left / "a", left):
            path.chmod(0)
        with pytest.raises(PermissionError):
            os.listdir(left)
        leftovers.remove(left)
        assert os.listdir(folder) == []


def test_thousands_of_folders_in_each_other_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    code = "import os\nfor i in range(3000): os.mkdir('d'); os.chdir('d')\nopen('file', 'w')"
    subprocess.run([sys.executable, "-c", code], cwd=left, check=True)
    leftovers.remove(left)
    assert not left.exists()


def test_removing_a_folder_leaves_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o500)
    (tmp_path / "left/inner").mkdir(parents=True)
    (tmp_path / "left/link").symlink_to(tmp_path / "kept")
    (tmp_path / "left/inner/link").symlink_to(tmp_path / "kept")
    leftovers.remove(tmp_path / "left")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o500
    leftovers.remove(tmp_path / "left")  # it is not there any more


@pytest.fixture
def name() -> Iterator[str]:
    """A name for files in shared memory that nobody else uses; such files are removed in the end."""
    name = f"autoresearch-test-{secrets.token_hex(8)}"
    yield name
    for path in Path(leftovers.SHARED).glob(f"{name}*"):
        path.rmdir() if path.is_dir() else path.unlink()


def test_what_appeared_in_shared_memory_is_removed(name: str) -> None:
    Path(leftovers.SHARED, f"{name}-old").write_text("x")
    before = leftovers.shared()
    Path(leftovers.SHARED, f"{name}-new").write_text("x")
    Path(leftovers.SHARED, f"{name}-folder").mkdir()
    leftovers.forget(before)
    assert [path.name for path in Path(leftovers.SHARED).glob(f"{name}*")] == [f"{name}-old"]


@pytest.mark.parametrize("use", ["open", "map"])
def test_what_a_living_program_uses_in_shared_memory_stays(name: str, use: str) -> None:
    before = leftovers.shared()
    path = Path(leftovers.SHARED, name)
    code = f"""
import mmap, os, sys
file = open({str(path)!r}, "w+b")
file.write(b"x" * 4096)
file.flush()
if {use!r} == "map":
    mapped = mmap.mmap(file.fileno(), 4096)
    file.close()
print("ready", flush=True)
sys.stdin.read()
"""
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout
    assert program.stdout.readline() == "ready\n"
    leftovers.forget(before)
    assert path.exists()
    program.communicate("")
    leftovers.forget(before)
    assert not path.exists()

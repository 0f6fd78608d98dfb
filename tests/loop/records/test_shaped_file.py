"""Whatever stands in the place of a file: it is read at once, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop.records.shaped_file import read_shaped


def test_a_regular_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"x" * 100)
    assert read_shaped(path, 100) == b"x" * 100
    assert read_shaped(path, 99) is None


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "pipe", "link", "device", "sparse", "socket", "unreadable folder"]
)
def test_anything_else_is_nothing(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "result.json", tmp_path / "other"
    other.write_text("somebody else's")
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(other)
        case "device":
            path.symlink_to("/dev/zero")
        case "sparse":
            with path.open("wb") as file:
                file.truncate(40 * 2**30)
        case "socket":
            import socket

            socket.socket(socket.AF_UNIX).bind(str(path))
        case "missing folder":
            path = tmp_path / "no such" / "result.json"
    assert read_shaped(path, 1000) is None


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/result.json").write_text("{}")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    assert read_shaped(tmp_path / "out/result.json", 1000) is None

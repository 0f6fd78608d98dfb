"""Whatever stands in the place of a file: it is read at once, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop.records.shaped_file import copy_shaped, read_shaped, remove_shaped, size_of_shaped


def test_a_regular_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"x" * 100)
    assert read_shaped(path, 100) == b"x" * 100
    assert read_shaped(path, 99) is None
    assert (size_of_shaped(path, 100), size_of_shaped(path, 99)) == (100, None)


def test_a_regular_file_is_copied_up_to_its_bound(tmp_path: Path) -> None:
    path, copy = tmp_path / "model.pt", tmp_path / "copy"
    path.write_bytes(b"x" * 100)
    assert not copy_shaped(path, 99, copy)
    assert not copy.exists()
    assert copy_shaped(path, 100, copy)
    assert copy.read_bytes() == b"x" * 100


def test_a_copy_that_cannot_be_written_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        copy_shaped(tmp_path / "model.pt", 100, tmp_path / "nowhere/copy")


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
    assert size_of_shaped(path, 1000) is None
    assert not copy_shaped(path, 1000, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    remove_shaped(path)
    assert os.path.lexists(path) == (kind == "folder")
    assert other.read_text() == "somebody else's"


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/result.json").write_text("{}")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    assert read_shaped(tmp_path / "out/result.json", 1000) is None
    assert size_of_shaped(tmp_path / "out/result.json", 1000) is None
    assert not copy_shaped(tmp_path / "out/result.json", 1000, tmp_path / "copy")
    remove_shaped(tmp_path / "out/result.json")
    assert (tmp_path / "elsewhere/result.json").read_text() == "{}"


def test_a_file_that_grows_while_it_is_read_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, real = tmp_path / "log", os.fstat
    file.write_bytes(b"one ")

    def grows(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        if found.st_size == 4:
            file.write_bytes(b"one two")
        return found

    monkeypatch.setattr(os, "fstat", grows)
    assert read_shaped(file, 100) == b"one two"
    file.write_bytes(b"one ")
    assert read_shaped(file, 6) is None

"""What a CLI agent may do without a human."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.agents.acp.policy import granted


@pytest.mark.parametrize(
    ("kind", "paths", "allowed"),
    [
        ("edit", ["train.py"], True),
        ("edit", [], False),
        ("edit", ["../train.py"], False),
        ("edit", ["link/x"], False),
        ("read", [], True),
        ("read", ["/etc/passwd"], False),
        ("search", ["."], True),
        ("execute", [], False),
        ("fetch", [], False),
        ("other", [], False),
        (None, [], False),
    ],
)
def test_permissions(tmp_path: Path, kind: str | None, paths: list[str], allowed: bool) -> None:
    (tmp_path / "link").symlink_to("/etc")
    assert granted(kind, paths, tmp_path) is allowed


def test_a_change_counts_only_when_all_its_paths_are_inside(tmp_path: Path) -> None:
    assert granted("move", [str(tmp_path / "a"), "b"], tmp_path)
    assert not granted("move", ["a", str(tmp_path.parent / "b")], tmp_path)


def test_a_directory_behind_a_link_is_still_inside(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert granted("edit", ["train.py"], tmp_path / "link")
    assert granted("edit", [str(tmp_path / "real" / "train.py")], tmp_path / "link")

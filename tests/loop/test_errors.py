"""Messages for what the system refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.errors import describe


def test_a_refused_file_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing") as caught:
        (tmp_path / "missing").read_text()
    assert describe(caught.value) == f"cannot use {tmp_path}/missing: No such file or directory"


def test_an_error_without_a_file_is_about_the_disk() -> None:
    assert describe(OSError(28, "No space left on device")) == "cannot use the disk: No space left on device"
    assert describe(OSError("short write")) == "cannot use the disk: short write"

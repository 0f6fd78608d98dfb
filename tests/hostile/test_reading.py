"""No reader waits, follows, swallows or falls over what stands in the place of its file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import reading, users


def test_every_reader_copes_with_every_kind_of_thing() -> None:
    with users.folder() as folder:
        found = subprocess.run(
            [sys.executable, "-m", "tests.hostile.reading", str(folder)],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout) == []


@pytest.mark.slow
def test_so_it_does_as_an_ordinary_user() -> None:
    with users.folder() as folder:
        assert users.run_as_nobody("tests.hostile.reading", folder) == []


def test_there_are_many_of_both() -> None:
    assert len(reading.READERS) * len(reading.KINDS) > 300

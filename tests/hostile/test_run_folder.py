"""Whatever stands in the place of a file of a run, every command and a new engine cope with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import users

PARTS = 13
"""All combinations take ten minutes. One of so many parts has each file, and each kind of thing, a few times:
by turns, as the number of kinds has no factor of it."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_reader_of_a_run_copes_with_odd_things_in_it() -> None:
    with users.folder() as folder:
        found = subprocess.run(
            [sys.executable, "-m", "tests.hostile.run_folder", str(folder), "0", str(PARTS)],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=290,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout) == []

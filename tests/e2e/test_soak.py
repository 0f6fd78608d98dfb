"""A day of research in a minute with all kinds of faults: nothing is lost, and the engine does not grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import soak
from tests.conftest import git

EXPERIMENTS = 288
"""As many as a day has with trainings of 300 s."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_happens_no_row_is_lost_or_doubled_and_memory_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    found = soak.run(tmp_path, EXPERIMENTS)
    assert (found.experiments, found.rows, found.wrong_rows) == (EXPERIMENTS, EXPERIMENTS, 0)
    assert found.kills > 0
    assert found.full_disks > 0
    assert found.outages > 0
    assert found.half_mb > 0
    assert found.end_mb < 1.1 * found.half_mb
    assert found.journal_bytes < 4000 * EXPERIMENTS
    git(tmp_path / "repo", "fsck", "--strict")

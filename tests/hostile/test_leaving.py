"""Whatever a training leaves where it may write, it is that training's own trouble, and the loop goes on."""

from __future__ import annotations

import pytest

from loop.training import fence
from tests.hostile import users

FULL = fence.detect().landlock >= 6 and fence.detect().seccomp


@pytest.mark.skipif(not FULL, reason=f"this machine's fence is {fence.detect()}")
def test_hostile_files_of_a_training_stop_nothing() -> None:
    """As an ordinary user: root may look into folders that are closed to anybody else."""
    with users.folder() as folder:
        baseline, leaves, deep, after = users.run_as_nobody("tests.hostile.leaving", folder)
        assert baseline == ["keep", "baseline"]
        assert leaves == ["discard", "it changed notes.txt"]
        assert deep == ["crash", "made folders more than 200 deep in each other"]
        assert after[0] == "keep"
        assert list((folder / "repo/.autoresearch/t/slots").glob("*.old-*")) == []

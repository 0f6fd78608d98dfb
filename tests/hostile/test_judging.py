"""Engine, trainer and judge of an ordinary user: as measured, as fenced and as closed to others as root's."""

from __future__ import annotations

import pytest

from loop.training import fence
from tests.hostile import users

FULL = fence.detect().landlock >= 6 and fence.detect().seccomp


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not FULL, reason=f"this machine's fence is {fence.detect()}")
def test_an_ordinary_user_has_a_judge_too() -> None:
    with users.folder() as folder:
        found = users.run_as_nobody("tests.hostile.judging", folder)
        assert found["ended"] == [[1.0, [True]], [pytest.approx(2 / 3), [True]], [0.5, [True]]]
        assert found["stolen"] == ["stole 0"]
        assert found["closed"] == 0o700
        assert found["open"] == [".gitignore"]

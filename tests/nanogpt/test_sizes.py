"""What `train.py --describe` prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TRAINER = Path(__file__).parents[2] / "nanogpt/train.py"


@pytest.mark.parametrize(("profile", "most"), [("h100", 80.0), ("24gb", 24.0), ("", None)])
def test_a_profile_fits_its_card_and_says_how(profile: str, most: float | None) -> None:
    environment = {**os.environ, "AUTORESEARCH_PROFILE": profile}
    done = subprocess.run(
        [sys.executable, str(TRAINER), "--describe"],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"profile: {profile or 'cpu'}" in done.stdout
    found = {name: float(value) for name, value in re.findall(r"^([\w -]+):\s+([\d.]+) ", done.stdout, re.M)}
    assert found["blocks"] > 0
    assert found["tokens"] > 0
    if most is not None:
        assert 0 < found["counts"] < found["memory"] < most / 1.07, "GiB, and the card has so many GB"

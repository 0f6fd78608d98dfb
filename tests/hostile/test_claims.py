"""What SECURITY.md and CHANGELOG.md say of the number of attacks is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.hostile.attacks import ATTACKS
from tests.red_team.cheats import CHEATS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "of", "count"),
    [
        ("SECURITY.md", "attacks", len(ATTACKS)),
        ("CHANGELOG.md", "attacks run", len(ATTACKS)),
        ("SECURITY.md", "ways to cheat", len({cheat.name for cheat in CHEATS})),
    ],
)
def test_there_are_as_many_as_is_said(file: str, of: str, count: int) -> None:
    claimed = re.search(rf"more than (\d+) {of}", (ROOT / file).read_text(), re.IGNORECASE)
    assert claimed
    assert count > int(claimed[1])

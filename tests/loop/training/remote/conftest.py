"""Orders for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loop.training.remote.orders import Orders


@pytest.fixture
def orders(repository: Path, tmp_path: Path) -> Iterator[Orders]:
    folder = tmp_path / "orders"
    folder.mkdir()
    found = Orders(repository, folder)
    yield found
    found.repository.close()

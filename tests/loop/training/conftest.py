"""Orders for the tests of this folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loop.training.remote.orders import Orders


@pytest.fixture
def orders(repository: Path, tmp_path: Path) -> Iterator[Orders]:
    folder = (
        tmp_path / f"orders-{secrets.token_hex(4)}"
    )  # names its trainings: tests look for their processes
    folder.mkdir()
    found = Orders(repository, folder)
    yield found
    found.repository.close()

"""Peers that agents talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.loop.agents.api.mock import Mock


@pytest.fixture(scope="session")
def mock_process() -> Iterator[Mock]:
    server = Mock()
    yield server
    server.close()


@pytest.fixture
def mock(mock_process: Mock) -> Mock:
    """An llmock server that has nothing to say yet."""
    mock_process.reset()
    return mock_process

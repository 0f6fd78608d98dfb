"""One prepared data set for all tests of this room, shared by the workers of one test run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import prepare


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the sympy data set is ready; whoever comes first makes it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "nanogpt-cache"
    before = os.environ.get("AUTORESEARCH_CACHE")
    os.environ["AUTORESEARCH_CACHE"] = str(folder)
    try:
        prepare.prepare(lambda line: None)
    finally:
        if before is None:
            del os.environ["AUTORESEARCH_CACHE"]
        else:
            os.environ["AUTORESEARCH_CACHE"] = before
    return folder


@pytest.fixture
def data(cache: Path, monkeypatch: pytest.MonkeyPatch) -> prepare.Data:
    """The sympy data set, read."""
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(cache))
    return prepare.load()

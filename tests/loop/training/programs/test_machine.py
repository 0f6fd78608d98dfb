"""What a machine offers to a fence."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from loop.training.programs import machine


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What was found before is asked anew."""
    machine.measures.cache_clear()
    yield
    machine.measures.cache_clear()


def test_the_kernel_is_asked_once() -> None:
    found = machine.measures()
    assert found.keys() == {"landlock", "seccomp", "memory"}
    assert machine.measures() is found


@pytest.mark.parametrize("printed", [b"", b"no", b"[]", b'{"landlock": "much"}'])
def test_a_machine_that_cannot_be_asked_offers_nothing(
    monkeypatch: pytest.MonkeyPatch, printed: bytes
) -> None:
    ended = subprocess.CompletedProcess([], 0, printed)
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: ended)
    assert machine.measures() == {"landlock": 0, "seccomp": 0, "memory": 0}

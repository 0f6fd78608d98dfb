"""The engine's end of the connection to the process that speaks with Ray; with a cluster: test_executor.py"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from loop.errors import UsageError
from loop.training.ray.link import Link, Unavailable


def link(tmp_path: Path, python: str = "") -> Link:
    return Link(python, "127.0.0.1:1", "namespace", tmp_path / "ray.log")


def test_a_cluster_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    made = link(tmp_path)
    with pytest.raises(UsageError, match=r"^no Ray head answers at 127\.0\.0\.1:1 \(Connection refused\)"):
        made.open()
    made.abandon()
    assert made.helper == 0


def test_a_python_without_ray_is_said(tmp_path: Path) -> None:
    without = tmp_path / "python"
    without.write_text(f'#!/bin/sh\nexec {sys.base_prefix}/bin/python3 -I -S "$@"\n')
    without.chmod(0o755)
    made = link(tmp_path, str(without))
    with pytest.raises(
        UsageError, match=r"^Ray is not installed for .*: pip install 'autoresearch-tui\[ray\]'$"
    ):
        made.open()
    made.abandon()


def test_a_helper_that_dies_is_said_with_its_last_words(tmp_path: Path) -> None:
    made = link(tmp_path, "/bin/false")
    with pytest.raises(UsageError, match=r"^Ray's helper ended: it printed nothing$"):
        made.open()


def test_the_helper_gets_the_clusters_token_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/token")
    waits = tmp_path / "python"
    waits.write_text("#!/bin/sh\nexec sleep 60\n")
    waits.chmod(0o755)
    made = link(tmp_path, str(waits))
    made._spawn()
    time.sleep(0.05)
    variables = Path(f"/proc/{made.helper}/environ").read_bytes()
    assert b"RAY_AUTH_TOKEN_PATH=/token" in variables
    assert b"secret" not in variables
    made.abandon()


async def test_a_connection_that_is_lost_is_opened_again_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop.training.ray.link.AGAIN_S", 0.0)
    made = link(tmp_path)
    for _ in range(2):
        with pytest.raises(Unavailable, match="no Ray head answers"):
            await made.ask("nodes")
    await made.close()

"""A real engine whose cockpit is served to browsers."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "loop.cli", *words]
    out = subprocess.PIPE if words[0] == "serve" else subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.DEVNULL)


def printed_address(server: subprocess.Popen[bytes]) -> str:
    """The address that `serve` prints in its first line, such as http://127.0.0.1:8000/secret/."""
    assert server.stdout is not None
    found = re.search(rb"at (http://\S+/\S+/), ctrl", server.stdout.readline())
    assert found
    return found[1].decode()


@pytest.fixture
def servers() -> list[psutil.Process]:
    """The processes that serve a page."""
    return []


@pytest.fixture
async def address(
    repository: Path, monkeypatch: pytest.MonkeyPatch, servers: list[psutil.Process]
) -> AsyncIterator[str]:
    """The address where the cockpit of a running engine is served."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    flags = ("--tag", "t", "--agent", "search", "--budget", "2")
    engine = start(repository, "run", *flags)
    while not (repository / ".autoresearch/t/engine.json").exists():
        assert engine.poll() is None
        await asyncio.sleep(0.05)
    server = start(repository, "serve", "--tag", "t", "--port", str(number))
    servers.append(psutil.Process(server.pid))
    yield await asyncio.to_thread(printed_address, server)
    for process in (server, engine):
        process.send_signal(signal.SIGTERM)
    for process in (server, engine):
        process.wait(30)

"""What doctor learns of a CLI agent when it asks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from loop.agents.acp import inquiry
from loop.agents.acp.inquiry import Found, inquire
from loop.agents.acp.known import Cli
from loop.agents.acp.opening import Place
from tests.loop.agents.acp.scenarios import HERE


async def asked(command: list[str], path: str = "/usr/bin:/bin") -> Found:
    return await inquire(Place("acp", Cli(command), {"PATH": path}, (), fenced=False, offline=True))


async def test_an_agent_says_who_it_is_and_what_it_offers(temporary: Path) -> None:
    found = await asked([sys.executable, str(HERE / "cli_agent.py"), "good"])
    assert found == Found("ok", "acp; a session opens; modes ask, acceptEdits; models small")
    assert list(temporary.iterdir()) == []


async def test_an_agent_that_is_not_logged_in_is_wrong() -> None:
    found = await asked([sys.executable, str(HERE / "cli_agent.py"), "login"])
    assert found.state == "wrong"
    assert "not logged in" in found.text


async def test_an_agent_that_is_silent_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "ANSWER_S", 0.5)
    found = await asked([sys.executable, "-c", "import time; time.sleep(60)"])
    assert (found.state, found.text) == ("wrong", f"{sys.executable} does not answer in 0 s")


async def test_an_agent_that_is_not_there_is_none() -> None:
    assert await asked(["no-such-agent"]) == Found("none", "no-such-agent is not on the PATH")


async def test_a_package_is_not_downloaded_to_look_at_it(tmp_path: Path) -> None:
    npx = tmp_path / "npx"
    script = "echo $@ | grep -q -- --offline || exit 3; echo 'npm error code ENOTCACHED' >&2; exit 1"
    npx.write_text(f"#!/bin/sh\n{script}\n")
    npx.chmod(0o755)
    found = await asked(["npx", "-y", "@a/b"], f"{tmp_path}:{os.environ['PATH']}")
    assert found == Found("none", f"not downloaded yet: npx does that at the first start ({npx})")

"""A session is opened, tells of itself, and nothing of it is left."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from loop.agents.acp.client import AcpClient
from loop.agents.acp.known import Cli
from loop.agents.acp.meter import Meter
from loop.agents.acp.opening import Place, _models, opened
from loop.agents.base import AgentFailed, AgentStopped, by_policy
from loop.agents.transcript import Transcript
from tests.loop.agents.acp.scenarios import HERE
from tests.loop.agents.world import Heard


def place(scenario: str, temporary: Path) -> Place:
    command = [sys.executable, str(HERE / "cli_agent.py"), scenario]
    return Place("acp", Cli(command), {"PATH": "/usr/bin:/bin", "HOME": str(temporary)}, (), fenced=False)


def client(folder: Path) -> AcpClient:
    return AcpClient(Transcript(1, Heard()), folder, by_policy, Meter())


async def test_an_agent_tells_of_itself(temporary: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="autoresearch-"))
    async with opened(place("steered", temporary), folder, client(folder)) as session:
        assert session.modes == ["ask", "acceptEdits"]
        assert (session.models, session.model, session.option) == ([("small", "Small One")], "small", "m")
        assert (session.steers, session.deletes) == (True, False)
        assert (folder.parent / f"{folder.name}.own/home").is_dir()
    assert list(temporary.iterdir()) == [folder]


async def test_models_that_the_protocol_does_not_know_are_found_too() -> None:
    listed = {"currentModelId": "auto", "availableModels": [{"modelId": "auto", "name": "Auto"}]}
    assert _models({"models": listed}) == ([("auto", "Auto")], "auto", "")
    assert _models({}) == ([], "", "")


DIES = [sys.executable, "-c", "raise SystemExit('no memory')"]


@pytest.mark.parametrize(
    ("command", "error", "said"),
    [
        ([sys.executable, str(HERE / "cli_agent.py"), "login"], AgentStopped, "not logged in"),
        (DIES, AgentFailed, "ended before it was done .no memory"),
        (["no-such-agent"], AgentStopped, "cannot start no-such-agent"),
    ],
)
async def test_an_agent_that_opens_no_session_says_why_and_leaves_nothing(
    temporary: Path, command: list[str], error: type[Exception], said: str
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="autoresearch-"))
    started = Place("acp", Cli(command), {"PATH": "/usr/bin:/bin"}, (), fenced=False)
    with pytest.raises(error, match=said):
        async with opened(started, folder, client(folder)):
            pass
    assert list(temporary.iterdir()) == [folder]

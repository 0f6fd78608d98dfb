"""Agents around `cli_agent.py`: each scenario is one way in which a CLI agent behaves."""

from __future__ import annotations

import sys
from pathlib import Path

from loop.agents.acp.agent import AcpAgent, Cli
from loop.agents.base import Bounds
from tests.loop.agents.api.mock import KEY

HERE = Path(__file__).parent


def cli(scenario: str, temporary: Path, seconds: float = 30.0) -> AcpAgent:
    environ = {
        "PATH": "/usr/bin:/bin", "HOME": str(temporary), "TMPDIR": str(temporary),
        "ANTHROPIC_API_KEY": KEY, "OTHER_TOKEN": KEY, "MINE_API_KEY": KEY, "OURS_A": "2",
    }  # fmt: skip
    command = Cli([sys.executable, str(HERE / "cli_agent.py"), scenario], ("MINE_API_KEY", "OURS_"))
    return AcpAgent("acp", command, environ, bounds=Bounds(seconds=seconds))

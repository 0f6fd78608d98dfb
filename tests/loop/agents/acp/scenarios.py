"""Agents around `cli_agent.py`: each scenario is one way in which a CLI agent behaves."""

from __future__ import annotations

import sys
from pathlib import Path

from loop.agents.acp.agent import AcpAgent
from loop.agents.acp.known import Cli
from loop.agents.acp.opening import Place
from loop.agents.acp.process import secrets
from loop.agents.base import Bounds
from tests.loop.agents.api.mock import KEY

HERE = Path(__file__).parent


def cli(
    scenario: str, temporary: Path, seconds: float = 30.0, model: str = "", outage_s: float = 60.0
) -> AcpAgent:
    environ = {
        "PATH": "/usr/bin:/bin", "HOME": str(temporary), "TMPDIR": str(temporary),
        "ANTHROPIC_API_KEY": KEY, "OTHER_TOKEN": KEY, "MINE_API_KEY": KEY, "OURS_A": "2",
        "OURS_PIDS": str(temporary),
    }  # fmt: skip
    command = Cli([sys.executable, str(HERE / "cli_agent.py"), scenario], ("MINE_API_KEY", "OURS_"))
    bounds = Bounds(seconds=seconds, wait_base_s=0.05, outage_s=outage_s)
    return AcpAgent(Place("acp", command, environ, secrets(environ), fenced=False), model, bounds)

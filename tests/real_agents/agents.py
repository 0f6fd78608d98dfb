"""How each real CLI agent is pointed at the scripted vendor: by its environment alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from loop.agents.acp.agent import AcpAgent
from loop.agents.acp.known import KNOWN
from loop.agents.acp.opening import Place
from loop.agents.acp.process import secrets
from loop.agents.base import Bounds
from tests.real_agents.vendor import Vendor

KEY = "sk-test-sentinel-0123456789"


class Real(Struct, frozen=True):
    """A real CLI agent."""

    program: list[str]
    environment: Callable[[str], dict[str, str]]
    """Its variables for a vendor at this address."""


def _codex(url: str) -> dict[str, str]:
    provider = {"name": "mock", "base_url": f"{url}/v1", "env_key": "OPENAI_API_KEY", "wire_api": "responses"}
    config = {"model_provider": "mock", "model": "gpt-5-codex", "model_providers": {"mock": provider}}
    return {"OPENAI_API_KEY": KEY, "CODEX_CONFIG": json.dumps(config)}


def _opencode(url: str) -> dict[str, str]:
    limit, cost = {"context": 200_000, "output": 32_000}, {"input": 3, "output": 15, "cache_read": 0.3}
    model = {"name": "mock", "limit": limit, "cost": cost}
    provider = {
        "npm": "@ai-sdk/openai-compatible", "name": "mock", "models": {"mock-model": model},
        "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
    }  # fmt: skip
    config = {"model": "mock/mock-model", "provider": {"mock": provider}}
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(config)}


REAL = {
    "claude-code": Real(
        ["claude-agent-acp"], lambda url: {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEY}
    ),
    "codex": Real(["codex-acp"], _codex),
    "gemini": Real(["gemini", "--acp"], lambda url: {"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": url}),
    "opencode": Real(["opencode", "acp"], _opencode),
    "qwen": Real(
        ["qwen", "--acp"],
        lambda url: {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_MODEL": "gpt-5-codex"},
    ),
}


def agent(
    name: str, programs: Path, home: Path, vendor: Vendor, seconds: float = 180.0, model: str = ""
) -> AcpAgent:
    """The real agent in an empty home, with waits sixty times as short as usual."""
    home.mkdir(exist_ok=True)
    environ = {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8",
        "OTHER_API_KEY": "sentinel-of-somebody-else", **REAL[name].environment(vendor.url),
    }  # fmt: skip
    cli = msgspec.structs.replace(KNOWN[name], command=REAL[name].program)
    place = Place(name, cli, environ, secrets(environ), fenced=True)
    return AcpAgent(place, model, Bounds(seconds=seconds, wait_base_s=1 / 60))

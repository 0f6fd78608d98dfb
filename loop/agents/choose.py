"""Chooses the agent and makes it. An agent's libraries are imported when it is chosen, not before.

`auto` takes the first that is configured: claude when ANTHROPIC_API_KEY is set; gpt when OPENAI_API_KEY,
OPENAI_BASE_URL or --base-url is; else search, which then says how to set up a model. CLI agents spend
somebody's subscription and run commands of their own, so they are chosen by name only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import msgspec

from loop.agents.base import Agent
from loop.agents.team import Team
from loop.config import Settings
from loop.errors import UsageError

if TYPE_CHECKING:
    from loop.agents.acp.known import Cli
    from loop.agents.acp.opening import Place
    from loop.agents.api.gpt import Api
    from loop.agents.base import Bounds

MODELS = {"claude": "claude-opus-5-5", "gpt": "gpt-6.1-sol"}
"""Models used when --model names none: strong ones whose price is known, so that --max-cost can be kept."""
KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")
CLI_AGENTS = ("claude-code", "codex", "gemini", "opencode", "qwen")
NAMES = ("auto", "claude", "gpt", "search", "acp", *CLI_AGENTS)
HOW_TO = (
    "No model is set up, so `search` varies hyperparameters by itself. For a model: set ANTHROPIC_API_KEY or "
    "OPENAI_API_KEY, point OPENAI_BASE_URL at a server of your own, or name a CLI agent (--agent "
    "claude-code, codex, gemini, opencode or qwen); then stop this engine and start it again."
)


def check_name(name: str) -> None:
    """Raise `UsageError` for a name that no agent has."""
    if name not in NAMES:
        raise UsageError(f"no agent {name!r}: choose one of {', '.join(NAMES)}")


def resolve(settings: Settings, environ: Mapping[str, str]) -> tuple[str, str]:
    """The name of the agent that the settings ask for, never `auto`, and why it is that one.

    Raises `UsageError` for a name that no agent has.
    """
    name = settings.agent
    check_name(name)
    if name != "auto":
        return name, "chosen by name"
    if environ.get("ANTHROPIC_API_KEY"):
        return "claude", "ANTHROPIC_API_KEY is set"
    if environ.get("OPENAI_API_KEY"):
        return "gpt", "OPENAI_API_KEY is set"
    if settings.base_url or environ.get("OPENAI_BASE_URL"):
        return "gpt", "a base URL is set"
    return "search", HOW_TO


def model(name: str, settings: Settings, environ: Mapping[str, str]) -> str:
    """The model that agent `name` uses; empty when its server or its command decides."""
    url = settings.base_url or environ.get("OPENAI_BASE_URL", "")
    default = "" if name == "gpt" and not _is_openai(url) else MODELS.get(name, "")
    return settings.model or default


def make_agent(settings: Settings, environ: Mapping[str, str]) -> Agent:
    """The agent for these settings, or a team of several.

    Raises `UsageError` when one cannot work here. `--model` is for an agent that works alone: several have
    their own.
    """
    if not settings.agents:
        return _make_one(settings, environ)
    if settings.model and len(settings.agents) > 1:
        raise UsageError("--model names one model, but --agents several agents: leave --model out")
    each = [msgspec.structs.replace(settings, agent=name, agents=[]) for name in settings.agents]
    return Team([_make_one(one, environ) for one in each])


def _make_one(settings: Settings, environ: Mapping[str, str]) -> Agent:
    name, why = resolve(settings, environ)
    if name == "search":
        from loop.agents.search.agent import SearchAgent

        return SearchAgent(why if settings.agent == "auto" else "")
    from loop.agents.base import Bounds

    bounds = Bounds(settings.max_turns, settings.proposal_s)
    if name == "claude":
        return _claude(settings, environ, bounds)
    return _gpt(settings, environ, bounds) if name == "gpt" else _acp(name, settings, environ, bounds)


def _claude(settings: Settings, environ: Mapping[str, str], bounds: Bounds) -> Agent:
    from loop.agents.api.claude import ClaudeAgent

    key = environ.get("ANTHROPIC_API_KEY", "")
    if not key:
        raise UsageError("agent claude needs ANTHROPIC_API_KEY in the environment")
    url = settings.base_url or environ.get("ANTHROPIC_BASE_URL", "")
    return ClaudeAgent(key, model("claude", settings, environ), url, bounds)


def _gpt(settings: Settings, environ: Mapping[str, str], bounds: Bounds) -> Agent:
    from loop.agents.api.gpt import GptAgent

    key = environ.get("OPENAI_API_KEY", "")
    url = settings.base_url or environ.get("OPENAI_BASE_URL", "")
    if not key and not url:
        raise UsageError(
            "agent gpt needs OPENAI_API_KEY in the environment, or --base-url for your own server"
        )
    return GptAgent(key, model("gpt", settings, environ), url, _api(settings.api, url), bounds)


def _api(wanted: Literal["auto", "responses", "chat"], url: str) -> Api:
    """Which API to speak: Responses with OpenAI itself; other servers may have Chat Completions only."""
    if wanted == "auto":
        return "responses" if _is_openai(url) else "chat"
    return wanted


def _is_openai(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return not url or host == "api.openai.com" or host.endswith((".openai.com", ".openai.azure.com"))


def _acp(name: str, settings: Settings, environ: Mapping[str, str], bounds: Bounds) -> Agent:
    from loop.agents.acp.agent import AcpAgent

    return AcpAgent(place(name, settings, environ), settings.model, bounds)


def place(name: str, settings: Settings, environ: Mapping[str, str], *, offline: bool = False) -> Place:
    """Where and how the CLI agent of this name is started. Raises `UsageError` when nobody has said."""
    from loop.agents.acp.opening import Place
    from loop.agents.acp.process import secrets

    fenced = settings.agent_sandbox == "auto"
    return Place(name, cli(name, settings), environ, secrets(environ), fenced, offline)


def cli(name: str, settings: Settings) -> Cli:
    """How the CLI agent of this name is started. Raises `UsageError` when nobody has said."""
    from loop.agents.acp.known import KNOWN, unknown

    if name == "acp" and not settings.agent_command:
        raise UsageError(
            'agent acp needs --agent-command, such as "npx @agentclientprotocol/claude-agent-acp"'
        )
    variables = tuple(settings.agent_env)
    if name not in KNOWN:
        found = unknown(settings.agent_command, variables)
    else:
        known = KNOWN[name]
        command = settings.agent_command or known.command
        found = msgspec.structs.replace(known, command=list(command), vendor=(*known.vendor, *variables))
    return msgspec.structs.replace(found, state=(*found.state, *settings.agent_state))

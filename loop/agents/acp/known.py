"""The CLI agents that are known by name: how each is started, and what is its own on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct


class Cli(Struct, frozen=True):
    """A CLI agent."""

    command: list[str]
    vendor: tuple[str, ...] = ()
    """Variables of the environment that are for it: names, or beginnings of names that end in `_`."""
    state: tuple[str, ...] = ()
    """Where in the home folder it keeps its login and its settings. It may change these."""
    moved: tuple[str, ...] = ()
    """Variables by which its user has put that elsewhere."""
    settings: dict[str, str] = {}
    """Variables that are set for it. `{private}` stands for the experiment's private folder."""
    sandboxes_itself: bool = False
    """It runs commands in a sandbox of its own, which cannot be put up inside another one. So that sandbox is
    set up for it instead (`Home.give_codex_its_own`)."""


KNOWN = {
    "claude-code": Cli(
        ["npx", "-y", "@agentclientprotocol/claude-agent-acp"],
        ("ANTHROPIC_", "CLAUDE_"),
        (".claude", ".claude.json"),
        ("CLAUDE_CONFIG_DIR",),
        # It asks again ten times, for three minutes and without a word, also for a refused key. Outages are
        # waited for here, where they are shown.
        {"CLAUDE_CODE_MAX_RETRIES": "1", "DISABLE_AUTOUPDATER": "1"},
    ),
    "codex": Cli(
        ["npx", "-y", "@agentclientprotocol/codex-acp"],
        ("OPENAI_", "CODEX_"),
        sandboxes_itself=True,
    ),
    "gemini": Cli(["gemini", "--acp"], ("GEMINI_", "GOOGLE_"), (".gemini",)),
    "opencode": Cli(
        ["opencode", "acp"],
        ("OPENCODE_", "ANTHROPIC_", "OPENAI_", "OPENROUTER_"),
        (".config/opencode", ".local/share/opencode", ".local/state/opencode", ".cache/opencode"),
        ("OPENCODE_CONFIG_DIR",),
        {
            "OPENCODE_DB": "{private}/opencode.db",  # its sessions
            "OPENCODE_PERMISSION": '{"bash":"ask","webfetch":"ask","websearch":"ask"}',
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
        },
    ),
    "qwen": Cli(
        ["qwen", "--acp"], ("OPENAI_", "DASHSCOPE_", "BAILIAN_", "QWEN_"), (".qwen",), ("QWEN_HOME",)
    ),
}


def unknown(command: Sequence[str], variables: tuple[str, ...]) -> Cli:
    """An agent that only its user knows: what usually belongs to a program of this name is taken for its own.

    A package of npm that a known agent is started from is that agent.
    """
    words = [word for word in command if not word.startswith("-")]
    program = words[1] if len(words) > 1 and Path(words[0]).name == "npx" else words[0]
    for cli in KNOWN.values():
        if cli.command[-1] == program or cli.command[0] == program:
            return msgspec.structs.replace(cli, command=list(command), vendor=variables)
    name = Path(program).name.split("@")[0]
    state = tuple(
        f"{place}{name}" for place in (".", ".config/", ".local/share/", ".local/state/", ".cache/")
    )
    return Cli(list(command), variables, state)

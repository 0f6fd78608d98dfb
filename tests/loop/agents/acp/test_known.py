"""What is known of CLI agents, and what is taken for the own of one that is not."""

from __future__ import annotations

import pytest

from loop.agents.acp.known import KNOWN, unknown
from loop.agents.choose import CLI_AGENTS


def test_every_agent_with_a_name_is_known() -> None:
    assert tuple(KNOWN) == CLI_AGENTS


@pytest.mark.parametrize(
    ("command", "first"),
    [
        (["vibe-acp"], ".vibe-acp"),
        (["/usr/bin/goose", "acp"], ".goose"),
        (["npx", "-y", "@github/copilot@1.0", "--acp"], ".copilot"),
    ],
)
def test_an_agent_that_only_its_user_knows_has_folders_of_its_name(command: list[str], first: str) -> None:
    cli = unknown(command, ("MINE",))
    assert (cli.command, cli.vendor, cli.state[0]) == (command, ("MINE",), first)
    assert cli.state[1:] == tuple(
        f"{p}/{first[1:]}" for p in (".config", ".local/share", ".local/state", ".cache")
    )


def test_the_package_of_a_known_agent_is_that_agent() -> None:
    cli = unknown(["npx", "@agentclientprotocol/codex-acp"], ())
    assert cli.sandboxes_itself
    assert cli.vendor == (), "its user names the variables that it gets"

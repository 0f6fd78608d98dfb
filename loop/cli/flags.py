"""The flags of a run: read from the command line, as settings, and passed on to the engine's process."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

AGENTS = "auto, search, claude, gpt, acp, claude-code, codex or gemini"


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tag", help="name of the run and of its branch autoresearch/TAG (default: today's date)")
    add("--agent", help=f"who proposes: {AGENTS} (default: auto)")
    add("--model", help="the agent's model (default: the agent's own)")
    add("--base-url", dest="base_url", help="an OpenAI-compatible server for agent gpt")
    add("--api", choices=("auto", "responses", "chat"), help="which API that server speaks")
    add("--agent-command", dest="agent_command", help="command of a CLI agent for agent acp")
    add(
        "--fix-attempts",
        dest="fix_attempts",
        type=int,
        metavar="N",
        help="repairs of a crashed idea (default: 2)",
    )
    add("--budget", dest="budget_s", type=float, metavar="S", help="training seconds a run (default: 300)")
    add(
        "--timeout",
        dest="timeout_s",
        type=float,
        metavar="S",
        help="kill a run then (default: 2 x budget)",
    )
    add("--sandbox", choices=("off", "auto", "require"), help="the fence around training (default: auto)")
    add("--rule", choices=("improved", "confirmed"), help="what is kept (default: confirmed)")
    add(
        "--baseline-runs",
        dest="baseline_runs",
        type=int,
        metavar="N",
        help="runs of the first code (default: 2)",
    )
    add("--approve", action="store_true", default=None, help="every candidate waits for your approval")
    add("--max-experiments", dest="max_experiments", type=int, metavar="N", help="rows of this run in all")
    add("--max-hours", dest="max_hours", type=float, metavar="H", help="hours of this engine")
    add("--max-cost", dest="max_cost", type=float, metavar="USD", help="dollars spent by the agent")
    add("--max-crashes", dest="max_crashes", type=int, metavar="N", help="crashes in a row (default: 10)")


FLAGS = (
    "agent", "model", "base_url", "api", "agent_command", "fix_attempts", "budget_s", "timeout_s", "sandbox",
    "rule", "baseline_runs", "approve", "max_experiments", "max_hours", "max_cost", "max_crashes",
)  # fmt: skip


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    flags = {name: getattr(arguments, name) for name in FLAGS}
    if flags["agent_command"]:
        import shlex

        flags["agent_command"] = shlex.split(flags["agent_command"])
    return flags


def forward(arguments: argparse.Namespace, tag: str) -> list[str]:
    """The same flags for the engine's process."""
    words = ["--tag", tag]
    for name in FLAGS:
        value = getattr(arguments, name)
        flag = "--" + name.removesuffix("_s").replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is not None:
            words += [flag, str(value)]
    return words


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

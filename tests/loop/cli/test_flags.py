"""The flags of a run, made from the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loop import config
from loop.cli.flags import Parser, add_settings, given
from loop.errors import UsageError

FLAGS = {
    "--agent", "--agent-sandbox", "--model", "--base-url", "--api", "--agent-command", "--fix-attempts",
    "--budget", "--timeout", "--sandbox", "--rule", "--baseline-runs", "--approve", "--max-experiments",
    "--max-hours", "--max-cost", "--max-crashes", "--workers", "--proposers", "--agents",
    "--until", "--track", "--executor", "--ray-address", "--slurm-account", "--slurm-allocation",
    "--slurm-folder", "--slurm-gres", "--slurm-partition", "--slurm-time",
}  # fmt: skip


def parser(*names: str) -> Parser:
    parser = Parser("test")
    add_settings(parser, *names)
    return parser


def flags_of(parser: Parser) -> set[str]:
    return {word for action in parser._actions for word in action.option_strings} - {"-h", "--help"}


def test_these_settings_have_a_flag() -> None:
    assert flags_of(parser()) == FLAGS


def test_a_command_may_have_the_flags_of_some_settings_only() -> None:
    assert flags_of(parser("budget_s", "sandbox")) == {"--budget", "--sandbox"}


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], {}),
        (["--budget", "60", "--timeout", "90"], {"budget_s": 60.0, "timeout_s": 90.0}),
        (["--approve"], {"approve": True}),
        (["--workers", "auto", "--proposers", "3"], {"workers": config.AUTO, "proposers": 3}),
        (["--agents", "claude, gpt,search"], {"agents": ["claude", "gpt", "search"]}),
        (["--max-experiments", "4", "--max-cost", "1.5"], {"max_experiments": 4, "max_cost": 1.5}),
        (["--agent-command", "npx 'an agent' --acp"], {"agent_command": ["npx", "an agent", "--acp"]}),
        (
            ["--rule", "improved", "--base-url", "http://h/v1"],
            {"rule": "improved", "base_url": "http://h/v1"},
        ),
    ],
)
def test_only_what_was_given_overrides_the_file(words: list[str], settings: dict[str, Any]) -> None:
    assert given(parser().parse_args(words)) == settings


def test_help_shows_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    text = parser().format_help()
    assert "--budget SECONDS" in text
    assert "how long each training trains; not set: 300" in text
    assert "--max-crashes N" in text
    assert "--rule {improved,confirmed}" in text
    assert "--model MODEL         the agent's model; none: the agent's own choice\n" in text
    for setting in config.described().values():
        assert not setting.flag or str(setting.meta.description) in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-experiments", "1.5"], "argument --max-experiments: invalid int value: '1.5'"),
        (["--sandbox", "maybe"], "argument --sandbox: invalid choice: 'maybe'"),
        (["--agent-command", "'open"], 'argument --agent-command: invalid command value: "\'open"'),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(words)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_flags_come_from_a_file_too_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    file.write_text(json.dumps({"budget_s": 60.0, "agent_command": ["a b"], "approve": True}))
    words = parser()
    words.add_argument("--flags-from", type=Path)
    assert given(words.parse_args(["--flags-from", str(file), "--budget", "30"])) == {
        "budget_s": 30.0,
        "agent_command": ["a b"],
        "approve": True,
    }
    with pytest.raises(UsageError, match="No such file"):
        given(words.parse_args(["--flags-from", str(tmp_path / "missing")]))
